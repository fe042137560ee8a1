"""A metanetwork that foresees what budgets do, from the public face."""

from __future__ import annotations

import pytest
import torch

import metanet
import metaprune
from metanet import ValueNetwork
from tests.pruners.networks import mlp, randomized


@pytest.fixture
def value(tmp_path):
    """A file of a value with any parameters at all."""
    network = ValueNetwork(members=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    path = tmp_path / "value.safetensors"
    metanet.save(network, path)
    return str(path)


@pytest.fixture
def given():
    torch.manual_seed(0)
    model = randomized(mlp().double())
    inputs = torch.randn(80, 6, dtype=torch.float64)
    calibration = metaprune.Calibration([(batch,) for batch in inputs.split(20)])
    return model, (inputs[:2],), calibration


@pytest.mark.parametrize("pattern", ["channels", "equal-widths"])
@pytest.mark.parametrize("budget", [None, {"rule": "metanet", "evaluations": 0}])
def test_widths_that_are_foreseen_meet_the_target_and_replay(given, value, pattern, budget):
    model, inputs, calibration = given
    result = metaprune.prune(
        model, inputs, pattern=pattern, target={"macs": "60%"}, calibration=calibration,
        metanet=value, budget=budget,
    )  # fmt: skip
    assert result.plan.budget == "metanet"
    assert result.plan.provenance["value"]["reference"] == value
    dense = metaprune.inspect(model, inputs).cost["macs"]
    assert result.report["achieved"]["macs"] <= 0.6 * dense
    again = metaprune.apply(model, inputs, result.plan, calibration=calibration)
    assert torch.equal(again.model(*inputs), result.model(*inputs))


def test_it_asks_for_what_it_needs(given, value):
    model, inputs, calibration = given
    asked = {"target": {"macs": "60%"}, "metanet": value}
    with pytest.raises(ValueError, match="need calibration"):
        metaprune.plan(model, inputs, **asked)
    with pytest.raises(ValueError, match="does not ask it"):
        metaprune.plan(model, inputs, calibration=calibration, budget="uniform", **asked)
    with pytest.raises(ValueError, match="leave metanet out"):
        metaprune.plan(
            model, inputs, calibration=calibration, pattern="unstructured", metanet=value,
            target={"sparsity": 0.5},
        )  # fmt: skip


def test_the_shipped_one_is_a_value_and_prunes(given):
    model, inputs, calibration = given
    result = metaprune.prune(
        model, inputs, target={"macs": "60%"}, calibration=calibration, metanet="value"
    )
    assert result.plan.budget == "metanet"
    dense = metaprune.inspect(model, inputs).cost["macs"]
    assert result.report["achieved"]["macs"] <= 0.6 * dense
