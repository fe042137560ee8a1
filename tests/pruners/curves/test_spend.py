"""Spending: within bounds, on the budget, and the best that there is."""

from __future__ import annotations

from itertools import product
from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.curves import Curve, spend
from pruners.curves.spend import POINTS

GRID = [i / 10 for i in range(11)]


def falling(strength, steepness):
    """A convex curve: exponential in the kept share, and 0 at full."""
    return Curve.of(GRID, [strength * (exp(-steepness * x) - exp(-steepness)) for x in GRID])


curves = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.2, 12)), min_size=1, max_size=3)


def total_of(shares, sizes):
    return sum(shares[name] * sizes[name] for name in shares)


@settings(max_examples=60)
@given(asked=curves, data=st.data())
def test_the_budget_is_met_within_bounds(asked, data):
    """Wherever the bounds allow it; else what is nearest to it."""
    names = [str(i) for i in range(len(asked))]
    drawn = dict(zip(names, (falling(*one) for one in asked), strict=True))
    sizes = {name: data.draw(st.integers(1, 1000)) for name in names}
    low = {name: data.draw(st.floats(0, 0.9)) for name in names}
    high = {name: low[name] + data.draw(st.floats(0, 1 - low[name])) for name in names}
    total = data.draw(st.floats(0, sum(sizes.values())))
    shares = spend(drawn, sizes, total, low, high)
    least, most = total_of(low, sizes), total_of(high, sizes)
    assert total_of(shares, sizes) == pytest.approx(min(max(total, least), most), rel=1e-9)
    assert all(low[n] - 1e-12 <= shares[n] <= high[n] + 1e-12 for n in names)


@settings(max_examples=40)
@given(asked=st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.2, 12)), min_size=2, max_size=3),
       sizes=st.lists(st.sampled_from([20, 40, 60]), min_size=3, max_size=3),
       share=st.floats(0.1, 0.9))  # fmt: skip
def test_nothing_on_a_grid_is_better(asked, sizes, share):
    """Against all shares in twentieths that fit, on convex curves."""
    names = [str(i) for i in range(len(asked))]
    drawn = dict(zip(names, (falling(*one) for one in asked), strict=True))
    size = dict(zip(names, sizes, strict=False))
    total = share * sum(size.values())
    found = spend(drawn, size, total, dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0))
    lost = sum(drawn[name].at(found[name]) for name in names)
    best = min(
        sum(drawn[n].at(k / 20) for n, k in zip(names, levels, strict=True))
        for levels in product(range(21), repeat=len(names))
        if sum(k / 20 * size[n] for n, k in zip(names, levels, strict=True)) <= total + 1e-9
    )
    # One step of a hundred is bought in part, at the price of the whole one.
    slack = sum(curve.losses[0] for curve in drawn.values()) / POINTS**2
    assert lost <= best + slack + 1e-9


@settings(max_examples=40)
@given(asked=curves, share=st.floats(0.05, 0.95), scale=st.floats(1e-9, 1e9))
def test_the_scale_of_all_losses_changes_nothing(asked, share, scale):
    names = [str(i) for i in range(len(asked))]
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)
    sizes = dict.fromkeys(names, 100)
    plain, scaled = (
        spend(
            {n: falling(s * factor, k) for n, (s, k) in zip(names, asked, strict=True)},
            sizes, share * 100 * len(names), low, high,
        )
        for factor in (1.0, scale)
    )  # fmt: skip
    assert plain == pytest.approx(scaled, abs=1.01 / POINTS)


def test_what_loses_more_for_a_number_keeps_more():
    drawn = {"small": falling(1.0, 3.0), "large": falling(1.0, 3.0), "idle": falling(0.0, 3.0)}
    sizes = {"small": 10, "large": 1000, "idle": 500}
    zero, one = dict.fromkeys(drawn, 0.0), dict.fromkeys(drawn, 1.0)
    shares = spend(drawn, sizes, 600, zero, one)
    assert shares["small"] == 1.0
    assert shares["idle"] == 0.0
    assert shares["large"] == pytest.approx(0.59)
    # What nobody needs is given out all the same: the target is met.
    rest = spend(drawn, sizes, 1300, zero, one)
    assert rest["idle"] == pytest.approx(290 / 500)
    assert spend(drawn, sizes, 600, one, one) == one


def test_a_curve_that_is_not_convex_is_bought_whole_or_not():
    """A step that only pays at its end is worth its mean."""
    cliff = Curve((0.0, 0.5, 0.9, 1.0), (10.0, 10.0, 10.0, 0.0))
    smooth = Curve((0.0, 1.0), (9.0, 0.0))
    found = spend(
        {"cliff": cliff, "smooth": smooth}, {"cliff": 100, "smooth": 100}, 100,
        {"cliff": 0.0, "smooth": 0.0}, {"cliff": 1.0, "smooth": 1.0},
    )  # fmt: skip
    assert found == pytest.approx({"cliff": 1.0, "smooth": 0.0})
