"""A budget rule from outside that divides masks and widths, in one file."""

from __future__ import annotations

import pytest

import metaprune
from pruners import budgets
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("unstructured", {"sparsity": 0.6}),
        ("column", {"sparsity": 0.5}),
        ("channels", {"macs": "50%"}),
        ("equal-widths", {"macs": "50%"}),
    ],
)
def test_a_pruning_takes_it_by_name_and_its_result_opens_again(add, reopened, pattern, target):
    add("budget rule")
    result = metaprune.prune(
        mlp(), EXAMPLE, target=target, pattern=pattern, budget="even", metanet=None
    )
    assert result.plan.budget == "even"
    dense, found = result.report["dense"], result.report["achieved"]
    if "macs" in target:
        assert found["macs"] <= dense["macs"] / 2
    else:
        assert found["sparsity"] >= target["sparsity"] - 1e-9
    reopened(result, source=SOURCE)


def test_its_options_count(add):
    add("budget rule")
    net = metaprune.trace(mlp(), EXAMPLE)
    names = budgets.prunable_weights(net)
    sizes = {name: net.tensors[name].value.numel() for name in names}
    even = budgets.allocate_masks("even", net, 0.25)
    kept = [round(even[name] * sizes[name]) for name in names]
    assert max(kept) - min(kept) <= 1 or min(even[n] for n in names) == 1
    flat = metaprune.plan(
        mlp(),
        EXAMPLE,
        target={"sparsity": 0.5},
        pattern="unstructured",
        budget={"rule": "even", "power": 0.0},
        metanet=None,
    )
    assert max(flat.density.values()) - min(flat.density.values()) < 0.05
    with pytest.raises(ValueError, match='"even" does not read "powr"; did you mean "power"'):
        budgets.allocate_masks("even", net, 0.5, powr=2.0)


def test_it_is_refused_where_it_divides_nothing(add):
    add("budget rule")
    with pytest.raises(ValueError, match='budget "even" cannot divide pattern "low-rank"'):
        metaprune.plan(mlp(), EXAMPLE, target={"params": "60%"}, pattern="low-rank", budget="even")
