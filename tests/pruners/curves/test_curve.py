"""Curves: 0 at full, never rising, and as steep as the lower convex hull of their points."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners.curves import Curve, Prediction
from pruners.curves.curve import SHOWN


@st.composite
def points(draw, most=7):
    """Ascending places, and losses in any order."""
    number = draw(st.integers(1, most))
    steps = draw(st.lists(st.floats(0.01, 5), min_size=number, max_size=number))
    kept = [sum(steps[: i + 1]) for i in range(number)]
    losses = draw(st.lists(st.floats(-1, 100), min_size=number, max_size=number))
    return kept, losses


def below(curve, x):
    """The lower convex hull at x, as the least of all chords around it."""
    found = [y for k, y in zip(curve.kept, curve.losses, strict=True) if k == x]
    for x0, y0 in zip(curve.kept, curve.losses, strict=True):
        for x1, y1 in zip(curve.kept, curve.losses, strict=True):
            if x0 < x < x1:
                found.append(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return min(found)


@given(points())
def test_a_curve_never_rises_and_ends_at_zero(given_points):
    kept, losses = given_points
    curve = Curve.of(kept, losses)
    assert curve.kept == tuple(kept)
    assert curve.losses[-1] == 0
    assert all(a >= b >= 0 for a, b in pairwise(curve.losses))


@given(points())
def test_it_is_the_smallest_such_curve_above_the_points(given_points):
    """What a worse budget cannot undo: every loss is one that was measured at it or behind it."""
    kept, losses = given_points
    curve = Curve.of(kept, losses)
    measured = [max(0.0, loss) for loss in losses[:-1]] + [0.0]
    for i, loss in enumerate(curve.losses):
        assert loss == max(measured[i:])
    assert Curve.of(kept, curve.losses) == curve


@given(points(), st.floats(-1, 40))
def test_between_points_it_lies_between_them(given_points, x):
    curve = Curve.of(*given_points)
    for place, loss in zip(curve.kept, curve.losses, strict=True):
        assert curve.at(place) == pytest.approx(loss, rel=1e-12)
    assert curve.losses[0] * (1 + 1e-12) >= curve.at(x) >= 0
    assert curve.at(curve.kept[0] - 1) == curve.losses[0]
    assert curve.at(curve.kept[-1] + 1) == curve.losses[-1]
    for (x0, x1), (y0, y1) in zip(pairwise(curve.kept), pairwise(curve.losses), strict=True):
        middle = curve.at((x0 + x1) / 2)
        mean = (y0 * y1) ** 0.5 if y1 > 0 else (y0 + y1) / 2
        assert middle == pytest.approx(mean, rel=1e-9)
    assert curve.sampled([x, x]) == [curve.at(x)] * 2


@given(points())
def test_slopes_are_those_of_the_lower_convex_hull(given_points):
    curve = Curve.of(*given_points)
    slopes = curve.slopes().tolist()
    assert len(slopes) == len(curve.kept) - 1
    assert all(a >= b >= 0 for a, b in pairwise(slopes))
    height = curve.losses[0]
    for slope, (x0, x1) in zip(slopes, pairwise(curve.kept), strict=True):
        height -= slope * (x1 - x0)
        assert height == pytest.approx(below(curve, x1), rel=1e-9, abs=1e-9)


def test_slopes_by_hand():
    curve = Curve((1, 2, 3, 5), (10.0, 9.0, 2.0, 0.0))
    assert curve.slopes().tolist() == [4.0, 4.0, 1.0]
    assert Curve((1,), (0.0,)).slopes().tolist() == []
    flat = Curve((0.0, 0.5, 1.0), (3.0, 3.0, 0.0))
    assert flat.slopes().tolist() == [3.0, 3.0]
    assert torch.equal(flat.slopes(), flat.slopes())


def test_a_prediction_adds_up_and_is_plain():
    curves = {"a": Curve((1, 2, 4), (4.0, 1.0, 0.0)), "b": Curve((0.1, 1.0), (0.5, 0.0))}
    found = Prediction(curves, {"a": 1, "b": 0.1, "c": 3})
    assert found.losses == {"a": 4.0, "b": 0.5}
    assert found.total == 4.5
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["total"] == 4.5
    assert plain["layers"]["a"] == {
        "kept": 1.0,
        "loss": 4.0,
        "curve": {"kept": [1.0, 2.0, 4.0], "losses": [4.0, 1.0, 0.0]},
    }
    assert Prediction({}, {}).total == 0


@pytest.mark.parametrize("size", [1, 2, SHOWN, SHOWN + 1, 1000])
def test_a_shown_curve_has_few_points_and_both_ends(size):
    curve = Curve.of(range(1, size + 1), [1 / n for n in range(1, size + 1)])
    shown = curve.to_json()
    assert len(shown["kept"]) == len(shown["losses"]) == min(size, SHOWN)
    assert (shown["kept"][0], shown["kept"][-1]) == (1, size)
    assert shown["losses"][-1] == 0
    assert all(a < b for a, b in pairwise(shown["kept"]))
