"""Bad input: every error says what was wrong, where, and what to do; unknown operators freeze."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import FrozenAxisError, TraceError, trace
from tests.graphs.families import build, run


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else x


class Sorting(nn.Module):
    """`aten.cummax` has no rule: its axis must freeze, the others stay free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.cummax(self.a(x), -1).values)))


def test_value_dependent_control_flow_is_refused_with_a_remedy():
    with pytest.raises(TraceError, match=r"cannot export Branches.*torch\.cond"):
        trace(Branches(), (torch.ones(2, 4),))


def test_wrong_example_inputs_are_named():
    model, _ = build("mlp")
    with pytest.raises(TraceError, match=r"does not run on the example inputs \(float32\[2, 5\]\)"):
        trace(model, (torch.ones(2, 5),))
    with pytest.raises(TraceError, match="example_inputs must be a tuple"):
        trace(model, 3)


def test_unknown_operator_freezes_its_axis_and_says_where():
    model = Sorting().double()
    inputs = (torch.randn(2, 4, dtype=torch.float64),)
    net = trace(model, inputs)
    assert "no rule for the operator (aten.cummax" in net.axes["a.out"].frozen
    assert "test_errors.py" in net.axes["a.out"].frozen
    assert net.axes["b.out"].frozen is None
    small = net.remove("b.out", [1, 3])
    assert run(small.to_model(), inputs).shape == (2, 3)


def test_frozen_axes_refuse_change():
    net = trace(*build("mlp"))
    with pytest.raises(FrozenAxisError, match=r"'4\.out' is left alone: output of the model"):
        net.remove("4.out", [0])
    with pytest.raises(FrozenAxisError):
        net.permute("4.out", [1, 0, 2, 3])


@pytest.mark.parametrize("indices", [[0, 0], [12], [-1], list(range(12))])
def test_bad_indices_are_refused(indices):
    net = trace(*build("mlp"))
    with pytest.raises(ValueError, match=r"0\.out"):
        net.remove("0.out", indices)


def test_bad_permutation_and_unknown_names_are_refused():
    net = trace(*build("mlp"))
    with pytest.raises(ValueError, match="permutation"):
        net.permute("0.out", [0] * 12)
    with pytest.raises(KeyError, match="groups"):
        net.remove("nowhere", [0])
    with pytest.raises(ValueError, match=r"0\.weight: expected shape"):
        net.replace({"0.weight": torch.zeros(1)})


def test_the_model_is_left_as_it_was():
    model, inputs = build("llama")
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = trace(model, inputs)
    net.remove({a.name: [0] for a in net.axes.values() if not a.frozen}).to_model()
    assert model.training
    assert model.config.use_cache
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
