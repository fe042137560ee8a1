"""Expected loss: the least sum of what every decision is expected to cost the predictions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.projection import bounds
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.problems.widths import unit_cost
from pruners.budgets.registry import rule
from pruners.curves import AxisCurve, ExpectedLoss, axis_curves, mask_curves, spend
from pruners.solvers.zeros import MaskPattern

QUICK, SMALL = "sparsegpt", 1 << 22
"""Beyond so many weights altogether curves are drawn with a faster solver than the one asked."""

SWEEPS = 8
"""Costs of units depend on all widths: they are taken anew so often."""


@rule("expected-loss", divides="masks")
def expected_loss_masks(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    expected: ExpectedLoss,
    solver: str = "admm",
    pattern: str | MaskPattern = "unstructured",
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """Minimise Σ ½ tr(G ΔW H ΔWᵀ) over kept shares, ΔW as the solver leaves it at each share.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        expected: both sides of the weights; those that were not measured keep the common share.
        solver: that will prune; curves of large networks are drawn with a faster one.
        pattern, lower, upper: see `allocate_masks`.
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    drawn = solver if sum(sizes.values()) <= SMALL else QUICK
    measured = {name: expected.sides[name] for name in weights if name in expected.sides}
    curves = mask_curves(measured, drawn, pattern)
    low = dict(zip(weights, bounds(lower, weights, 0.0).tolist(), strict=True))
    high = dict(zip(weights, bounds(upper, weights, 1.0).tolist(), strict=True))
    rest = {n: min(max(density, low[n]), high[n]) for n in weights if n not in curves}
    total = density * sum(sizes.values()) - sum(rest[n] * sizes[n] for n in rest)
    return {**spend(curves, sizes, total, low, high), **rest}


@rule("expected-loss", divides="widths")
def expected_loss_widths(request: Request, *, expected: ExpectedLoss, order: str = "loss") -> Kept:
    """Minimise Σ ½ tr(G S) over widths, S what a refit of the readers of an axis leaves of them.

    Args:
        request: what is asked.
        expected: both sides of the weights.
        order: of the units inside an axis; see `pruners.curves.axis_curves`.
    """
    curves = axis_curves(request.net, expected.sides, request.scores, request.scores, order)
    return cheapest(request, curves)


def cheapest(request: Request, curves: Mapping[str, AxisCurve]) -> Kept:
    """Units that stay by curves of axes: one threshold over what a unit is worth for its cost.

    What a unit costs depends on the widths of other axes, so costs are taken at the widths that the
    last round found; the round with the least sum of losses counts.

    Args:
        request: what is asked.
        curves: axis name → curve; axes without one keep units by their scores, as if they were as
            sensitive as the others.
    """
    worth = {}
    for axis, found in curves.items():
        slopes = found.curve.slopes()
        worth[axis] = torch.cat([slopes[:1], slopes]) if len(slopes) else torch.ones(1).double()
    middle = torch.cat(list(worth.values())).median() if worth else torch.ones(()).double()
    widths = {axis: request.net.axes[axis].size for axis in request.scores}
    best: tuple[float, Kept] | None = None
    for _ in range(SWEEPS):
        costs = dict(zip(widths, unit_cost(request.net, request.target, widths), strict=True))
        scores = {}
        for axis, given in request.scores.items():
            if axis in curves:
                size = len(given)
                rank = torch.empty(size, dtype=torch.float64)
                rank[curves[axis].order] = torch.arange(size, dtype=torch.float64)
                each = worth[axis][rank.long()]
            else:
                rank = given.double().cpu().argsort(descending=True, stable=True).argsort().double()
                each = given.double().cpu() / given.double().mean().cpu().clamp_min(1e-30) * middle
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
