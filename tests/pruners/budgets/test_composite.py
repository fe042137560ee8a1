"""Sparse and low-rank in one currency."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graphs import trace
from pruners import budgets
from pruners.budgets.problems.composite import spread
from pruners.statistics import Imitation
from tests.pruners.conftest import make


def low_rank_case():
    """A layer that is nearly of rank 2, and one that is sparse."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(24, 2) @ torch.randn(2, 24) / 5)
        model[0].weight.add_(0.01 * torch.randn(24, 24))
        model[2].weight.copy_((torch.rand(24, 24) < 0.1) * torch.randn(24, 24))
        model[2].weight.add_(0.01 * torch.randn(24, 24))
    x = torch.randn(64, 24, dtype=torch.float64)
    return model.eval(), trace(model, (x,)), x


def problem_of(case, density=0.4):
    loss = Imitation(case.model, [case.inputs])
    weights = {n: case.net.tensors[n].value for n in budgets.prunable_weights(case.net)}
    return budgets.CompositeProblem(weights, density, loss)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.floats(0.02, 0.98))
def test_numbers_stored_are_exactly_the_budget(seed, density):
    case = make("cnn")
    problem = problem_of(case, density)
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(len(problem.dials), generator=generator, dtype=torch.float64)
    choice = problem.realise(logits)
    count = len(problem.names)
    stored = sum(choice[:count])
    stored += sum(r * c for r, c in zip(choice[count:], problem.rank_cost, strict=True))
    assert stored == problem.total == budgets.allowance(density, sum(problem.numel))
    assert all(0 <= r <= most for r, most in zip(choice[count:], problem.max_rank, strict=True))
    for i, (s, low) in enumerate(problem.parts(choice).values()):
        assert int((s != 0).sum()) <= choice[i]
        assert torch.linalg.matrix_rank(low) <= choice[count + i]


def test_everything_kept_is_the_dense_weight():
    case = make("cnn")
    problem = problem_of(case)
    full = (*problem.numel, *(0 for _ in problem.numel))
    for name, value in problem.values(full).items():
        torch.testing.assert_close(value, case.net.tensors[name].value)
    mixed = (*problem.numel, *problem.max_rank)
    for name, value in problem.values(mixed).items():
        torch.testing.assert_close(value, case.net.tensors[name].value)


def test_prices_are_the_slope_of_the_loss():
    """The price of a rank is what the loss does when a hundredth of the next rank is added."""
    model, net, x = low_rank_case()
    loss = Imitation(model, [x])
    weights = {n: net.tensors[n].value for n in budgets.prunable_weights(net)}
    problem = budgets.CompositeProblem(weights, 0.3, loss)
    choice = (0, weights["2.weight"].numel(), 0, 0)
    value, prices = problem.prices(choice)
    left, right, _ = problem._factors["0.weight"]
    step = 1e-5 * torch.outer(left[:, 0], right[0])
    moved = problem.values(choice)
    moved["0.weight"] = moved["0.weight"] + step
    slope = (loss.value(moved) - value) / 1e-5
    assert prices[2].item() * problem.rank_cost[0] == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("method", ["price", "evolution", "policy-gradient"])
def test_a_low_rank_layer_gets_ranks_and_a_sparse_one_weights(method):
    model, net, x = low_rank_case()
    loss = Imitation(model, [x])
    options = {"steps": 15} if method == "price" else {"evaluations": 150}
    found = budgets.allocate_composite(net, 0.25, loss=loss, method=method, **options)
    found.check(net)
    assert sum(found.stored(net).values()) == 2 * 24 * 24 // 4
    assert found.kept(net) == pytest.approx(0.25, abs=1e-3)
    assert found.rank["0.weight"] >= 2
    assert found.rank["0.weight"] > found.rank.get("2.weight", 0)
    # One share for both kinds of every matrix is worse than what was found.
    weights = {n: net.tensors[n].value for n in budgets.prunable_weights(net)}
    problem = budgets.CompositeProblem(weights, 0.25, loss)
    even = problem.realise(problem.start(dict.fromkeys(weights, 0.25)))
    best = tuple(round(found.density[n] * 576) for n in weights)
    best += tuple(found.rank.get(n, 0) for n in weights)
    assert problem.loss(best) < 0.7 * problem.loss(even)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 400)), min_size=1, max_size=6), st.data())
def test_what_ranks_leave_over_is_spread_exactly(entries, data):
    capacity = [c for _, c in entries]
    wanted = [share * c for share, c in entries]
    total = data.draw(st.integers(0, sum(capacity)))
    found = spread(wanted, capacity, total)
    assert sum(found) == total or sum(wanted) == 0
    assert all(0 <= k <= c for k, c in zip(found, capacity, strict=True))


def test_a_budget_is_a_value_that_refuses_what_cannot_be():
    net = make("cnn").net
    budget = budgets.Budget({"fc.weight": 0.5}, {"conv1.weight": 3}, {"stem.out": 6})
    budget.check(net)
    assert budget.stored(net) == {"fc.weight": 80, "conv1.weight": 3 * (12 + 72)}
    assert budgets.Budget().kept(net) == 1.0
    for broken, words in [
        (budgets.Budget({"x": 0.5}), 'names tensor "x"'),
        (budgets.Budget(rank={"fc.weight": 6}), "its rank is at most 5"),
        (budgets.Budget(width={"x": 1}), 'names axis "x"'),
        (budgets.Budget(width={"stem.out": 9}), "cannot keep 9 units: it has 8 units"),
    ]:
        with pytest.raises(ValueError, match=words):
            broken.check(net)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        budgets.Budget({"fc.weight": 2.0})
    with pytest.raises(ValueError, match="must be a whole number"):
        budgets.Budget(rank={"fc.weight": 1.5})
