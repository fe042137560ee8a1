"""Expected loss: the least sum of what every decision is expected to cost the predictions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.projection import bounds
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.problems.widths import unit_cost
from pruners.budgets.registry import rule
from pruners.budgets.rules.global_threshold import most_worth
from pruners.curves import (
    FEWEST,
    AxisCurve,
    Curve,
    ExpectedLoss,
    Prediction,
    Sides,
    axis_curves,
    mask_curves,
    spend,
)
from pruners.curves.axes import check_order
from pruners.curves.masks import HELD
from pruners.solvers import build
from pruners.solvers.zeros import MaskPattern
from pruners.statistics import NoCurvatureError
from pruners.units.select import MinUnits, floors, select

QUICK, SMALL = "sparsegpt", 1 << 22
"""Beyond so many weights altogether a network is large: curves of masks are drawn with a faster
solver than the one asked, and nothing is tried."""

TRIED_ORDERS, TRIED_SHOTS = ("loss", "given"), (1, 2, 4)
"""What is tried where nothing is said."""

SWEEPS = 8
"""Costs of units depend on all widths: they are taken anew so often."""


MOST = 16
"""Rounds or shots: each measures and solves the network anew, and more than a few gain nothing."""


def check_number(option: str, given: int | None) -> None:
    """Refuse a number of rounds or shots that is none.

    Raises:
        ValueError: neither None nor a whole number from 1 to `MOST`.
    """
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST:
        raise ValueError(f"{option} takes a whole number from 1 to {MOST} (got {given!r})")


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
    rounds: int | None = None,
) -> dict[str, float]:
    """Minimise Σ ½ tr(G ΔW H ΔWᵀ) over kept shares, ΔW as the solver leaves it at each share.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        expected: both sides of the weights; those that were not measured keep the common share.
        solver: that will prune; curves of large networks are drawn with a faster one, and so are
            those of solvers that read gradients of weights.
        pattern, lower, upper: see `allocate_masks`.
        rounds: times that shares are found, each time but the first with the curvature of the
            network that the last ones leave, solved in order; None for 2, for large networks 1.
    """
    check_number("rounds", rounds)
    zeros = MaskPattern.parse(pattern)
    low = dict(zip(weights, bounds(lower, weights, 0.0).tolist(), strict=True))
    if zeros.m:
        low = {name: max(share, zeros.least / zeros.m) for name, share in low.items()}
    high = dict(zip(weights, bounds(upper, weights, 1.0).tolist(), strict=True))
    sizes = {name: weight.numel() for name, weight in weights.items()}
    large = sum(sizes.values()) > SMALL
    able = solver if build(solver).needs <= HELD else QUICK
    drawn = QUICK if large else able

    def once(measured: Mapping[str, Sides]) -> dict[str, float]:
        known = {n: measured[n] for n in weights if n in measured}
        curves = mask_curves(known, drawn, zeros)
        rest = {n: min(max(density, low[n]), high[n]) for n in weights if n not in curves}
        total = density * sum(sizes.values()) - sum(rest[n] * sizes[n] for n in rest)
        found = {**spend(curves, sizes, total, low, high), **rest}
        expected.prediction = Prediction(curves, found)
        return found

    asked = rounds if rounds is not None else 1 if large else 2
    shares = once(expected.sides)
    for _ in range(asked - 1):
        shares = once(expected.curved_by(expected.masked(shares, able, zeros)))
    return shares


@rule("expected-loss", divides="widths")
def expected_loss_widths(
    request: Request,
    *,
    expected: ExpectedLoss,
    order: str | None = None,
    shots: int | None = None,
) -> Kept:
    """Minimise Σ ½ tr(G S) over widths, S what a refit of the readers of an axis leaves of them.

    The curvature of the dense network misleads where much goes: with several shots the target is
    reached in steps of equal ratio, each with curves of the network that the last one left.

    What is not said is tried: each way is cut, refitted, and judged on examples of the calibration
    that it did not see; the rule "global" is one of them. Where outputs are no scores, or few
    examples are left out, there is nothing to judge by, and the first way is taken.

    Args:
        request: what is asked.
        expected: both sides of the weights.
        order: of the units inside an axis (`pruners.curves.axis_curves`); None tries "loss" and
            "given", for large networks "loss" alone.
        shots: number of steps; None tries 1, 2 and 4, for large networks 1 alone. Widths that are
            tied together are taken in one.
    """
    check_number("shots", shots)
    if order is not None:
        check_order(order)
    numbers = sum(tensor.value.numel() for tensor in request.net.tensors.values())
    large, tied = numbers > SMALL, request.cut is not select
    if tied and shots is not None and shots > 1:
        raise ValueError(
            f"widths that are tied together are found in one shot (got shots={shots}); leave shots "
            'out, or choose the pattern "channels"'
        )
    if not tied:
        least = floors(request.net, request.scores, request.min_units, request.round_to)
        request.target.check(request.net, least)
    # What ties axes together knows the dense network alone.
    tried = (1,) if large or tied else TRIED_SHOTS
    orders = TRIED_ORDERS[:1] if large else TRIED_ORDERS
    tried = tried if shots is None else (shots,)
    orders = orders if order is None else (order,)
    if len(tried) * len(orders) == 1:
        return in_shots(request, expected, orders[0], tried[0])
    try:
        part, judge = expected.divided()
    except NoCurvatureError:  # outputs that are no scores cannot be judged
        return in_shots(request, expected, orders[0], tried[0])
    if judge.predictions < FEWEST:
        return in_shots(request, expected, orders[0], tried[0])

    def judged(kept: Kept) -> float:
        return judge(part.after(kept).model)

    ways = [(each, tried[0]) for each in orders]
    found = {way: in_shots(request, part, *way) for way in ways}
    lost = {way: judged(kept) for way, kept in found.items()}
    best = min(lost, key=lambda way: lost[way])
    for more in tried[1:]:
        way = best[0], more
        lost[way] = judged(in_shots(request, part, *way))
    best = min(lost, key=lambda way: lost[way])
    expected.tried = {f"order {each}, shots {k}": value for (each, k), value in lost.items()}
    if order is None and shots is None:
        plain = request.select(request.scores)
        expected.tried["one threshold over L2"] = judged(plain)
        if expected.tried["one threshold over L2"] < lost[best]:
            expected.prediction = None
            return plain
    return in_shots(request, expected, *best)


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


@rule("expected-loss", divides="ranks")
def expected_loss_ranks(problem: RankProblem, *, expected: ExpectedLoss) -> Choice:
    r"""One threshold over what a stored number catches of ½ tr(G W H Wᵀ), all weights together.

    The best factors of rank r leave the squared singular values of G^½ W H^½ behind the first r.

    Args:
        problem: the budget.
        expected: both sides of the weights; those that were not measured count as an average one.
    """
    found = {name: one.energy for name, one in expected.sides.items() if name in problem.spectra}
    middle = torch.tensor(list(found.values()) or [1.0], dtype=torch.float64).median().item()
    strengths = [found.get(name, middle) for name in problem.dials]
    choice = most_worth(problem, strengths)
    curves = {}
    for (name, spectrum), strength in zip(problem.spectra.items(), strengths, strict=True):
        missed = [*(1 - spectrum.energy.cumsum(0)).tolist(), 0.0]
        curves[name] = Curve.of(range(1, len(missed) + 1), [strength * share for share in missed])
    expected.prediction = Prediction(curves, dict(zip(problem.dials, choice, strict=True)))
    return choice


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
