"""Every architecture with a stream is transformed by the same code: same function, same class."""

from __future__ import annotations

import pytest
import torch

from graphs import trace
from graphs.build.rebuild import rebuild
from metaprune.testing.checking import gap
from pruners import Target
from pruners.solvers import MaskPattern
from pruners.transformations import MaskRequest, Permute, Rotate, UnitRequest
from pruners.units.select import select
from tests.architectures import ARCHITECTURES, available, build
from tests.architectures.laws import outputs
from tests.architectures.test_rotations import NAMES, QUICK

MORE = "SwinForImageClassification BertForMaskedLM Gemma2ForCausalLM T5ForConditionalGeneration"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in QUICK else pytest.mark.slow)
        for n in [*NAMES, *MORE.split()]
    ],
)
def test_outputs_and_class_stay_and_less_goes(name):
    if not available(ARCHITECTURES[name]):
        pytest.skip(f"{ARCHITECTURES[name].needs} cannot be imported here")
    model, inputs = build(name, torch.float32)
    net = trace(model, inputs)
    asked = MaskRequest(net, model, [inputs], MaskPattern.parse("2:4"), 0.5, "admm")
    found = Rotate(descent=4).find(asked)
    dealt = Permute().find(asked.after(found.moves))
    assert found.moves.turns
    assert found.figures["single_weights"]["after"] < found.figures["single_weights"]["before"]
    moved = found.then(dealt).moves.apply(net).to_model()
    assert type(moved) is type(model)
    assert gap(outputs(model, inputs), outputs(moved, inputs)) < 1e-5


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES],
)
def test_streams_of_components_get_narrower_in_the_same_class(name):
    if not available(ARCHITECTURES[name]):
        pytest.skip(f"{ARCHITECTURES[name].needs} cannot be imported here")
    model, inputs = build(name, torch.float32)
    net = trace(model, inputs)
    target = Target.parse({"macs": "70%"}).in_amounts(net)
    found = Rotate(descent=2).find(UnitRequest(net, model, [inputs], target, 1, 1, select))
    assert found.moves.turns
    assert found.figures["features"]["after"] < found.figures["features"]["before"]
    moved = found.moves.apply(net)
    assert gap(outputs(model, inputs), outputs(moved.to_model(), inputs)) < 1e-5
    sizes = {axis: moved.axes[axis].size for axis in found.moves.turns}
    small = moved.remove({axis: torch.arange(3 * n // 4, n) for axis, n in sizes.items()})
    assert type(rebuild(small).model) is type(model)
