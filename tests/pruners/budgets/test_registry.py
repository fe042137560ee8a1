"""Rules by name: one home, whatever they divide, also for rules from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import metaprune
from pruners import budgets, units
from pruners.budgets.registry import DIVIDES
from tests.pruners.conftest import make


@pytest.fixture
def mine() -> Iterator[str]:
    """A rule that divides all there is, registered by a module that is not of the package."""
    with budgets.RULES.scoped():

        @budgets.rule("mine", divides="masks")
        def masks(weights, density, *, depth, strength=0.1):
            return {name: density + strength * (0.5 - depth[name]) for name in weights}

        @budgets.rule("mine", divides="widths")
        def widths(request):
            return request.select(request.scores, "uniform")

        @budgets.rule("mine", divides="ranks")
        def ranks(problem):
            return problem.cut(lambda share: share * problem.most, 0.0, 1.0)

        yield "mine"


def test_a_rule_from_outside_divides_whatever_it_says(mine):
    case = make("mlp")
    names = budgets.prunable_weights(case.net)
    assert all(mine in budgets.rules_for(divides) for divides in DIVIDES)
    shares = budgets.allocate_masks(mine, case.net, 0.5, strength=0.4)
    sizes = {name: case.net.tensors[name].value.numel() for name in names}
    assert sum(shares[n] * sizes[n] for n in names) == pytest.approx(sum(sizes.values()) // 2)
    assert shares[names[0]] > shares[names[-1]]
    scores = units.base_scores(case.net)
    assert budgets.allocate_widths(mine, case.net, scores, {"macs": "50%"})
    assert budgets.allocate_ranks(mine, case.net, names, {"params": "80%"})


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("unstructured", {"sparsity": 0.5}),
        ("row", {"sparsity": 0.5}),
        ("channels", {"macs": "60%"}),
        ("low-rank", {"params": "80%"}),
        ("sparse+low-rank", {"sparsity": 0.5}),
    ],
)
def test_a_plan_takes_it_by_name(mine, pattern, target):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 4)
    )
    plan = metaprune.plan(
        model, (torch.randn(2, 16),), target=target, pattern=pattern, budget=mine, metanet=None
    )
    assert plan.budget == mine


def test_what_cannot_be_is_said_with_the_nearest_name():
    case = make("mlp")
    names = budgets.prunable_weights(case.net)
    with pytest.raises(ValueError, match=r'unknown budget rule "unifrom" \(did you mean "uniform"'):
        budgets.allocate_masks("unifrom", case.net, 0.5)
    with pytest.raises(ValueError, match='rule "flap" cannot divide masks: expected one of'):
        budgets.allocate_masks("flap", case.net, 0.5)
    with pytest.raises(ValueError, match='does not read "slop"; did you mean "slope"'):
        budgets.allocate_masks("depth-linear", case.net, 0.5, slop=0.1)
    with pytest.raises(ValueError, match='"search" needs the loss of pruned networks, measured'):
        budgets.allocate_ranks("search", case.net, names, {"params": "80%"})
    with pytest.raises(ValueError, match="a rule divides one of masks, widths, ranks"):
        budgets.rule("mine", divides="cakes")
    with pytest.raises(ValueError, match='"uniform" for widths is already registered'):
        budgets.rule("uniform", divides="widths")(print)


def test_evidence_is_what_the_signature_names():
    assert budgets.needs("price") == budgets.needs("price", "ranks") == ["loss"]
    assert budgets.needs("owl") == ["norms"]
    assert budgets.needs("flap", "widths") == ["fluctuations"]
    assert budgets.needs("erk") == []
    case = make("mlp")
    assert set(budgets.measured("owl", case.net, [case.inputs], ["0.weight"])) == {"norms"}
    assert budgets.measured("owl", case.net, []) == {}
