"""What `apply` does about units that went."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.pruners.networks import ResidualCNN, randomized


@pytest.fixture(scope="module")
def problem():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomized(ResidualCNN(), 0)
        batches = [torch.randn(32, 3, 6, 6) for _ in range(3)]
    example = (batches[0][:2],)
    plan = metaprune.plan(model, example, target={"macs": "60%"}, metanet=None, budget="uniform")
    return model, example, plan, batches


def error(problem, compensate, **options):
    model, example, plan, batches = problem
    result = metaprune.apply(
        model, example, plan, calibration=batches, compensate=compensate, **options
    )
    x = torch.cat(batches)
    with torch.no_grad():
        return (model(x) - result.model(x)).square().mean().item(), result


def test_a_refit_comes_closer_to_the_dense_network(problem):
    folded, _ = error(problem, "bias", recalibrate=False)
    fitted, result = error(problem, "refit")
    assert fitted < 0.8 * folded
    assert any("refitted" in note for note in result.report["notes"])
    assert not any("recalibrated" in note for note in result.report["notes"])
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, result.network.tensors[name].value), name


def test_true_and_false_are_the_default_and_nothing(problem):
    plain, result = error(problem, False, recalibrate=False)
    assert not any("ompensat" in note or "refit" in note for note in result.report["notes"])
    usual, _ = error(problem, True, recalibrate=False)
    assert usual < plain


def test_an_unknown_compensation_is_refused_before_any_work(problem):
    with pytest.raises(ValueError, match='unknown compensation "magic": expected "bias", "refit"'):
        error(problem, "magic")
