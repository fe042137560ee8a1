"""A pattern from outside: planned, carried out, recovered, iterated, saved, opened, replayed."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


def prune(model=None, **settings):
    asked = {"target": {"sparsity": 0.5}, "pattern": "band", "metanet": None, **settings}
    return metaprune.prune(mlp() if model is None else model, EXAMPLE, **asked)


def assert_banded(result: metaprune.Result, made) -> None:
    assert result.masks
    for name, mask in result.masks.items():
        rows, columns = mask.shape
        assert torch.equal(mask, made.band(rows, columns, int(mask[0].sum())))
        weight = result.model.get_parameter(name)
        assert torch.equal(weight != 0, mask)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("budget", [None, "erk", "global"])
def test_the_target_is_met_within_one_unit(add, sparsity, budget):
    made = add("pattern")
    result = prune(target={"sparsity": sparsity}, budget=budget)
    assert_banded(result, made)
    largest = max(mask.shape[0] for mask in result.masks.values())
    total = sum(mask.numel() for mask in result.masks.values())
    assert 0 <= result.report["achieved"]["sparsity"] - sparsity < largest / total


@pytest.mark.parametrize("recovery", [None, [], ["layer"], ["order", "recalibrate"]])
@pytest.mark.parametrize("solver", [None, "wanda"])
def test_solvers_and_recovery_methods_serve_it(add, reopened, recovery, solver):
    made = add("pattern")
    result = prune(calibration=batches(), solver=solver, recovery=recovery)
    assert_banded(result, made)
    reopened(result, source=SOURCE)


def test_recovery_brings_it_nearer_to_the_dense_network(add):
    add("pattern")
    x = torch.cat(batches())
    plain, fitted = (
        (prune(calibration=batches(), recovery=r).model(x) - mlp()(x)).square().mean()
        for r in ([], None)
    )
    assert fitted < 0.8 * plain


def test_it_composes_iterates_and_replays(add, reopened, tmp_path):
    made = add("pattern")
    once = prune(schedule={"iterative": {"steps": 2}}, calibration=batches())
    assert len(once.plan.steps) == 2
    assert_banded(once, made)
    narrow = metaprune.prune(once, EXAMPLE, target={"macs": "60%"}, metanet=None)
    assert [step.pattern for step in narrow.plan.steps] == ["band", "band", "channels"]
    reopened(narrow, source=SOURCE)
    once.plan.save(tmp_path / "plan.json")
    plan = metaprune.Plan.load(tmp_path / "plan.json")
    again = metaprune.apply(mlp(), EXAMPLE, plan, calibration=batches())
    assert again.masks.keys() == once.masks.keys()
    assert all(torch.equal(again.masks[name], mask) for name, mask in once.masks.items())


def test_it_is_found_by_the_way_it_is_written(add):
    with pytest.raises(ValueError, match='unknown pattern "band"'):
        prune()
    add("pattern")
    with pytest.raises(ValueError, match='did you mean "band"'):
        prune(pattern="bnad")
