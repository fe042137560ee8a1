"""Whole units: never above what is asked, and no unit more would fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners import UnreachableTargetError
from pruners.budgets import Levels, allowance, project
from pruners.solvers import MaskPattern

finite = st.floats(-40, 40)
entries = st.lists(st.tuples(finite, st.integers(1, 10**7)), min_size=1, max_size=12)


def single(*sizes):
    names = tuple(f"w{i}" for i in range(len(sizes)))
    return Levels(names, sizes, (1,) * len(sizes), (0,) * len(sizes), sizes)


@settings(max_examples=150, deadline=None)
@given(entries=entries, budget=st.floats(0, 1))
def test_single_weights_meet_the_budget_and_stay_near_their_shares(entries, budget):
    logits = torch.tensor([logit for logit, _ in entries], dtype=torch.float64)
    sizes = [size for _, size in entries]
    total = allowance(budget, sum(sizes))
    shares = project(logits, sizes, budget)
    kept = single(*sizes).nearest(shares, total)
    assert sum(kept) == total
    for share, size, count in zip(shares.tolist(), sizes, kept, strict=True):
        assert 0 <= count <= size
        assert abs(count - share * size) <= 1.001


def test_largest_remainders_are_served_in_order():
    assert single(3, 3, 3, 3).nearest([0.5] * 4, 6) == [2, 2, 1, 1]
    assert single(10, 10).nearest([0.25, 0.75], 10) == [3, 7]
    assert single(4, 4).nearest([1.0, 0.0], 4) == [4, 0]
    assert single(4, 4).nearest([1.0, 0.26], 5) == [4, 1]
    # Shares in single precision of a large tensor: off by a little more than rounding.
    assert sum(single(10**8, 10**8).nearest(torch.tensor([0.1, 0.9]), 10**8)) == 10**8


@pytest.mark.parametrize(
    ("density", "size", "kept"),
    [(0.3, 10, 3), (1 - 0.7, 10, 3), (0.35, 10, 3), (0.0, 7, 0), (1.0, 7, 7), (0.999999, 10, 9)],
)
def test_what_may_stay_is_the_share_rounded_down_but_for_floating_point(density, size, kept):
    assert allowance(density, size) == kept
    assert allowance(density, 10**9 * size) == pytest.approx(density * 10**9 * size, abs=1)


MULTIPLES = {
    "unstructured": (1, 1),
    "row": (1, 1),
    "1:2": (1, 2),
    "2:4": (1, 4),
    "column": (1, 1),
    "column:3": (1, 3),
    "block:4x4": (4, 4),
    "block:2x3": (2, 3),
}


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(MULTIPLES)),
    blocks=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=7),
    place=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_pattern_stays_within_the_budget_and_no_unit_more_fits(name, blocks, place, seed):
    pattern, (height, width) = MaskPattern.parse(name), MULTIPLES[name]
    shapes = {f"w{i}": (r * height, c * width) for i, (r, c) in enumerate(blocks)}
    levels = Levels.of(pattern, shapes)
    least, size = levels.stored(levels.fewest), sum(levels.sizes)
    total = least + int(place * (size - least))
    logits = torch.randn(len(shapes), generator=torch.Generator().manual_seed(seed))
    kept = levels.nearest(project(logits, levels.sizes, total / size), total)
    left = total - levels.stored(kept)
    assert all(
        low <= k <= high for low, k, high in zip(levels.fewest, kept, levels.most, strict=True)
    )
    assert left >= 0
    assert all(s > left for k, s, n in zip(kept, levels.steps, levels.most, strict=True) if k < n)
    # A mask of the share has just so many units.
    for (tensor, shape), units in zip(shapes.items(), kept, strict=True):
        share = levels.shares(kept)[tensor]
        mask = pattern.top(torch.rand(shape), None if pattern.m else share)
        if not pattern.m:
            step = shape[0] * shape[1] // pattern.levels(*shape)
            assert int(mask.sum()) == units * step


def test_less_than_the_fewest_units_is_refused_with_what_is_reachable():
    levels = Levels.of(MaskPattern.parse("2:4"), {"a": (2, 4), "b": (1, 8)})
    with pytest.raises(UnreachableTargetError, match=r"fewest .* store, 4: .* from 0\.25 to 1"):
        levels.nearest([0.1, 0.1], 3)
    assert levels.nearest([0.1, 0.1], 4) == [1, 1]


def test_bounds_between_levels_and_shapes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r'multiples of 1/4 of "a".*widen'):
        Levels.of(MaskPattern.parse("2:4"), {"a": (2, 4)}, 0.3, 0.4)
    with pytest.raises(ValueError, match=r'"b": 6 output rows are not a multiple of 4'):
        Levels.of(MaskPattern.parse("block:4x4"), {"a": (4, 4), "b": (6, 4)})
    bounded = Levels.of(MaskPattern.parse("row"), {"a": (3, 10), "b": (3, 10)}, 0.25, {"a": 0.55})
    assert (bounded.fewest, bounded.most) == ((3, 3), (5, 10))
