"""A solver from outside: it finds masks, alone and layer after layer."""

from __future__ import annotations

import pytest
import torch

import metaprune
from pruners import solvers
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4", "block:2x2"])
def test_it_keeps_what_its_law_says(add, pattern):
    add("solver")
    weight = mlp()[2].weight.detach()
    norms = torch.linspace(0.5, 2, 16)
    found = solvers.solve(
        "ria", weight, None if pattern == "2:4" else 0.5, pattern, statistics={"norms": norms}
    )
    assert int(found.mask.sum()) == weight.numel() // 2
    assert torch.equal(found.weight, weight * found.mask)
    size = weight.abs()
    scores = (size / size.sum(0) + size / size.sum(1, keepdim=True)) * norms.sqrt()
    if pattern == "unstructured":
        assert scores[found.mask].min() >= scores[~found.mask].max()


@pytest.mark.parametrize("recovery", [[], ["layer"], ["order", "recalibrate"]])
def test_a_pruning_takes_it_by_name_and_its_result_opens_again(add, reopened, recovery):
    add("solver")
    result = metaprune.prune(
        mlp(),
        EXAMPLE,
        target={"sparsity": 0.5},
        pattern="unstructured",
        solver="ria",
        metanet=None,
        calibration=batches(),
        recovery=recovery,
    )
    assert result.plan.solver == "ria"
    assert 0 <= result.report["achieved"]["sparsity"] - 0.5 < 1 / 100
    reopened(result, source=SOURCE)


def test_it_is_offered_where_it_fits_and_refused_where_not(add):
    settings = {"target": {"params": "60%"}, "metanet": None}
    with pytest.raises(ValueError, match='unknown solver "ria"'):
        metaprune.plan(mlp(), EXAMPLE, pattern="row", solver="ria", **settings)
    add("solver")
    with pytest.raises(ValueError, match='solver "ria" does not fit pattern "low-rank"'):
        metaprune.plan(mlp(), EXAMPLE, pattern="low-rank", solver="ria", **settings)
    plan = metaprune.plan(mlp(), EXAMPLE, pattern="row", solver="ria", **settings)
    with pytest.raises(ValueError, match='solver "ria" needs calibration'):
        metaprune.apply(mlp(), EXAMPLE, plan)
