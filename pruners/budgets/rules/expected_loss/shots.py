"""Widths with the least sum of expected losses, in one step or in several."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.problems.widths import unit_cost
from pruners.curves import AxisCurve, Curve, ExpectedLoss, Prediction, axis_curves
from pruners.units.select import MinUnits, floors

SWEEPS = 8
"""Costs of units depend on all widths: they are taken anew so often."""


def in_shots(request: Request, expected: ExpectedLoss, order: str, shots: int) -> Kept:
    """Widths in a number of steps; see `expected_loss_widths`.

    What is predicted is of all that goes, on the curves of the dense network: those of a later step
    begin at what the last one left.
    """
    net, target = request.net, request.target
    least: MinUnits = request.min_units
    if shots > 1:
        # A share of the dense width, whatever is left of it.
        least = floors(net, request.scores, request.min_units, request.round_to)
    kept = {axis: torch.arange(net.axes[axis].size) for axis in request.scores}
    first, dense = expected, {}
    for step in range(1, shots + 1):
        asked = target if shots == 1 else target.on_the_way(net, step / shots)
        scores = {axis: request.scores[axis].detach().cpu()[index] for axis, index in kept.items()}
        now = Request(expected.net, scores, asked, least, request.round_to, request.cut)
        curves = axis_curves(now.net, expected.sides, now.scores, now.scores, order)
        chosen = cheapest(now, curves)
        kept = {
            axis: index[chosen[axis]] if axis in chosen else index for axis, index in kept.items()
        }
        if step == 1:
            dense = {axis: found.curve for axis, found in curves.items() if axis in chosen}
        if step < shots:
            expected = expected.after(chosen)
    first.prediction = Prediction(dense, {axis: float(len(kept[axis])) for axis in kept})
    return kept


def cheapest(request: Request, curves: Mapping[str, AxisCurve]) -> Kept:
    """Units that stay by curves of axes: one threshold over what a unit is worth for its cost.

    What a unit costs depends on the widths of other axes, so costs are taken at the widths that the
    last round found; the round with the least sum of losses counts.

    Args:
        request: what is asked.
        curves: axis name → curve; axes without one keep units by their scores, as if they were as
            sensitive as the others.
    """
    worth = worths(request, curves)
    widths = {axis: request.net.axes[axis].size for axis in request.scores}
    best: tuple[float, Kept] | None = None
    for _ in range(SWEEPS):
        costs = dict(zip(widths, unit_cost(request.net, request.target, widths), strict=True))
        scores = {}
        for axis, given in request.scores.items():
            size = len(given)
            order = given.double().cpu().argsort(descending=True, stable=True)
            rank = torch.empty(size, dtype=torch.float64)
            rank[curves[axis].order if axis in curves else order] = torch.arange(size).double()
            each = worth[axis][rank.long()]
            priced = each.clamp_min(1e-30).log() - costs[axis].clamp_min(1e-30).log()
            # Steps of one hull are worth the same: they go in the order of the units.
            scores[axis] = priced - 1e-9 * rank
        kept = request.select(scores)
        lost = sum(curves[a].curve.at(len(index)) for a, index in kept.items() if a in curves)
        if best is None or lost < best[0]:
            best = lost, kept
        following = {axis: len(index) for axis, index in kept.items()}
        if following == widths:
            break
        widths |= following
    assert best is not None
    return best[1]


def worths(request: Request, curves: Mapping[str, AxisCurve]) -> dict[str, torch.Tensor]:
    """What the units of every axis are worth, those that stay longest first, float64.

    On an axis without a curve as much as their scores say, and the average one as much as that of
    the other axes.

    Args:
        request: what is asked.
        curves: axis name → curve.
    """
    found = {}
    for axis, one in curves.items():
        slopes = one.curve.slopes()
        found[axis] = torch.cat([slopes[:1], slopes]) if len(slopes) else torch.ones(1).double()
    middle = torch.cat(list(found.values())).median() if found else torch.ones(()).double()
    for axis, given in request.scores.items():
        if axis not in curves:
            scores = given.detach().cpu().double()
            scores = scores / scores.mean().clamp_min(1e-30) * middle
            found[axis] = scores.sort(descending=True).values
    return found


def assumed(worth: torch.Tensor) -> Curve:
    """The curve of an axis that nothing measures: units that go are lost one by one.

    Args:
        worth: of its units, those that stay longest first.
    """
    behind = worth.flip(0).cumsum(0).flip(0).tolist()
    return Curve.of(range(1, len(worth) + 1), [*behind[1:], 0.0])
