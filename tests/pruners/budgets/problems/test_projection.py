from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.budgets import bounds, project

finite = st.floats(-40, 40)
entries = st.lists(st.tuples(finite, st.integers(1, 10**7)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(entries=entries, budget=st.floats(0, 1), low=st.floats(0, 0.5), high=st.floats(0.5, 1))
def test_the_budget_is_met_and_the_bounds_hold(entries, budget, low, high):
    logits = torch.tensor([logit for logit, _ in entries], dtype=torch.float64)
    sizes = [size for _, size in entries]
    budget = low + budget * (high - low)
    kept = project(logits, sizes, budget, low, high)
    assert (kept >= low - 1e-12).all()
    assert (kept <= high + 1e-12).all()
    total = (kept * torch.tensor(sizes, dtype=torch.float64)).sum().item()
    assert total == pytest.approx(budget * sum(sizes), rel=1e-9, abs=1e-9)
    # Larger logits never keep less.
    order = logits.argsort()
    assert (kept[order].diff() >= -1e-12).all()


def test_equal_logits_give_the_budget_and_a_shift_changes_nothing():
    torch.testing.assert_close(
        project(torch.zeros(3), [5, 6, 7], 0.3), torch.full((3,), 0.3, dtype=torch.float64)
    )
    logits = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(project(logits, [1, 2, 3], 0.6), project(logits + 7, [1, 2, 3], 0.6))


def test_a_budget_that_is_already_met_is_left_alone():
    share = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    sizes = torch.tensor([10, 20, 30])
    budget = ((share * sizes).sum() / sizes.sum()).item()
    torch.testing.assert_close(project(torch.logit(share), sizes, budget), share)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.1, 0.8), ([0.0, 0.2, 0.3, 0.0], 0.9)])
def test_gradients(bounds):
    low, high = (torch.as_tensor(b, dtype=torch.float64) for b in bounds)
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    budget = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def function(logits, budget):
        return project(logits, [10, 300, 7, 55], budget, low, high)

    assert torch.autograd.gradcheck(function, (logits, budget), eps=1e-6, atol=1e-6)


def test_the_gradient_keeps_the_budget():
    logits = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([1.0, 10, 100, 1000, 5, 50], dtype=torch.float64)
    (project(logits.requires_grad_(), sizes, 0.3) * sizes).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_the_ends_of_the_range_are_the_bounds(budget):
    logits = torch.randn(4, requires_grad=True)
    kept = project(logits, [1, 2, 3, 4], budget)
    assert (kept == budget).all()
    kept.sum().backward()
    assert (logits.grad == 0).all()


def test_saturated_logits_still_meet_the_budget():
    logits = torch.tensor([1000.0, -1000.0], requires_grad=True)
    for budget in (0.3, 0.5, 0.7):
        kept = project(logits, [1, 1], budget)
        assert kept.sum().item() == pytest.approx(2 * budget)
        (gradient,) = torch.autograd.grad(kept[0], logits)
        assert gradient.isfinite().all()


def test_equal_bounds_leave_no_choice():
    tight = project(torch.randn(3), [1, 2, 3], 0.4, 0.4, 0.4 + 1e-16)
    assert tight.tolist() == pytest.approx([0.4] * 3)
    assert project(torch.randn(3), [1, 2, 3], 0.4, 0.4, 0.4).tolist() == [0.4] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2), [1, 2], 1.5), "outside what the bounds allow: 0 to 1"),
        ((torch.zeros(2), [1, 3], 0.1, torch.tensor([0.0, 0.4])), "0.3 to 1"),
        ((torch.zeros(2), [1, 2], 0.5, 0.4, 0.4), "0.4 to 0.4"),
        ((torch.tensor([0.0, torch.inf]), [1, 2], 0.5), "finite"),
        ((torch.zeros(2), [1, 0], 0.5), "positive"),
        ((torch.zeros(2), [1, 2, 3], 0.5), "one length"),
        ((torch.zeros(0), [], 0.5), "nothing to budget"),
        ((torch.zeros(2), [1, 2], 0.5, 0.6, 0.4), "lower <= upper"),
    ],
)
def test_bad_input_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        project(*arguments)


@settings(max_examples=60, deadline=None)
@given(entries=entries, pair=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_more_budget_gives_every_tensor_more_and_order_does_not_matter(entries, pair, seed):
    logits = torch.tensor([logit for logit, _ in entries], dtype=torch.float64)
    sizes = torch.tensor([size for _, size in entries])
    little, much = (project(logits, sizes, budget) for budget in sorted(pair))
    assert (much >= little - 1e-9).all()
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed))
    shuffled = project(logits[order], sizes[order], pair[0])
    torch.testing.assert_close(shuffled, project(logits, sizes, pair[0])[order])


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(
        st.tuples(finite, st.integers(1, 10**5), st.floats(0, 0.5), st.floats(0.5, 1)),
        min_size=1,
        max_size=8,
    ),
    place=st.floats(0, 1),
)
def test_every_tensor_has_its_own_bounds(entries, place):
    logits, sizes, low, high = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*entries, strict=True)
    )
    least, most = ((bound * sizes).sum() / sizes.sum() for bound in (low, high))
    budget = (least + place * (most - least)).item()
    kept = project(logits, sizes, budget, low, high)
    assert ((kept >= low - 1e-12) & (kept <= high + 1e-12)).all()
    assert (kept * sizes).sum().item() == pytest.approx(budget * sizes.sum().item(), rel=1e-8)


def test_bounds_by_name():
    assert bounds(0.2, ["a", "b"], 0.0).tolist() == [0.2, 0.2]
    assert bounds({"b": 0.3}, ["a", "b"], 0.0).tolist() == [0.0, 0.3]
    with pytest.raises(ValueError, match='bound for "c"'):
        bounds({"c": 0.3}, ["a", "b"], 0.0)
