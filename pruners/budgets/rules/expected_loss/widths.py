"""Expected loss over widths: ways of choosing them, and prunings that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path

import torch

from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule
from pruners.budgets.rules.expected_loss.options import SMALL, check_evaluations, check_number
from pruners.budgets.rules.expected_loss.shots import cheapest, in_shots
from pruners.budgets.rules.expected_loss.trials import (
    Foresee,
    Trials,
    foreseeing,
    further,
    predicted,
)
from pruners.budgets.searching.judge import check_search
from pruners.budgets.searching.surrogate import foreseen
from pruners.curves import ExpectedLoss, check_order
from pruners.recovery.regression import LostFunctionError
from pruners.units.select import floors, select

TRIED_ORDERS, TRIED_SHOTS = ("loss", "given"), (1, 2, 4)
"""What is tried where nothing is said."""


@rule("expected-loss", divides="widths")
def expected_loss_widths(
    request: Request,
    *,
    expected: ExpectedLoss,
    order: str | None = None,
    shots: int | None = None,
    evaluations: int | None = None,
    seed: int = 0,
    journal: str | Path | None = None,
    foresee: Foresee | None = None,
) -> Kept:
    """Minimise Σ ½ tr(G S) over widths, S what a refit of the readers of an axis leaves of them.

    The curvature of the dense network misleads where much goes: with several shots the target is
    reached in steps of equal ratio, each with curves of the network that the last one left.

    What is not said is tried: each way is cut, refitted, and judged on examples of the calibration
    that it did not see; the rule "global" is one of them. Where outputs are no scores, or few
    examples are left out, there is nothing to judge by, and the first way is taken.

    Evaluations beyond the ways go to widths that a surrogate proposes from what was judged
    (`pruners.budgets.searching.surrogate`); the best of all is taken.

    Args:
        request: what is asked.
        expected: both sides of the weights.
        order: of the units inside an axis (`pruners.curves.axis_curves`); None tries "loss" and
            "given", for large networks "loss" alone.
        shots: number of steps; None tries 1, 2 and 4, for large networks 1 alone. Widths that are
            tied together are taken in one.
        evaluations: prunings that are judged in all; None for the ways, 0 for none.
        seed: of the proposals.
        journal: file that lets interrupted proposals continue; see `Judge` of
            `pruners.budgets.searching`.
        foresee: what is expected of budgets as a whole, in the place of the sum of expected losses:
            without evaluations the budget of which the least is expected, in one shot.

    Raises:
        LostFunctionError: all that is tried computes NaN.
        ValueError: an option that is none; or evaluations are asked, and there is nothing to judge
            by.
    """
    check_number("shots", shots)
    check_evaluations(evaluations)
    check_search(seed, journal)
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
    if foresee is not None:
        tried, orders = tried[:1], orders[:1]
    first = orders[0], tried[0]
    one_way = len(tried) * len(orders) == 1
    if foresee is not None and not evaluations:
        if first[1] > 1:
            raise ValueError("what budgets do is foreseen in one shot: leave shots out")
        return _foreseen(request, expected, first[0], seed, foresee)
    if evaluations == 0 or (one_way and evaluations is None):
        return in_shots(request, expected, *first)
    apart = expected.judged_apart(insist=evaluations is not None)
    if apart is None:
        return in_shots(request, expected, *first)
    part, judge = apart
    trials = Trials(lambda kept: part.after(kept).model, judge, evaluations)
    lost = _judged(request, part, orders, tried, trials)
    best = min(lost, key=lambda way: lost[way])
    plain = request.select(request.scores)
    free = foresee is None and order is None and shots is None and not trials.spent
    threshold = free and trials(plain, "one threshold over L2") < lost[best]
    if not isfinite(trials.least):
        raise LostFunctionError(
            f"what is left computes NaN or infinity in every way that was tried "
            f"({', '.join(trials.named)}): ask for less, or keep more of every axis (min_units)"
        )
    units = "given" if threshold else best[0]
    found = further(request, part, units, trials, seed, journal, foresee)
    expected.tried, expected.candidates = trials.named, trials.candidates
    if found is not None:
        problem, _, curves = foreseeing(request, expected, units, None)
        kept = problem.kept(found)
        expected.prediction = predicted(curves, kept)
        return kept
    if threshold:
        expected.prediction = None
        return plain
    return in_shots(request, expected, *best)


def _foreseen(
    request: Request, expected: ExpectedLoss, order: str, seed: int, foresee: Foresee
) -> Kept:
    """Widths of which the least damage is expected; nothing is judged."""
    problem, value, curves = foreseeing(request, expected, order, foresee)
    start = cheapest(request, curves)
    begin = tuple(len(start[axis]) for axis in problem.dials)
    generator = torch.Generator().manual_seed(seed)
    kept = problem.kept(foreseen(problem, value, [begin], generator))
    expected.prediction = predicted(curves, kept)
    return kept


def _judged(
    request: Request,
    part: ExpectedLoss,
    orders: Sequence[str],
    shots: Sequence[int],
    trials: Trials,
) -> dict[tuple[str, int], float]:
    """(Order, shots) → damage: all orders in the fewest shots, the best of them in more."""
    lost: dict[tuple[str, int], float] = {}

    def attempt(way: tuple[str, int]) -> None:
        if not trials.spent:
            name = f"order {way[0]}, shots {way[1]}"
            try:
                lost[way] = trials(in_shots(request, part, *way), name)
            except LostFunctionError:  # a shot on the way
                lost[way] = trials.named[name] = inf

    for each in orders:
        attempt((each, shots[0]))
    best = min(lost, key=lambda way: lost[way])[0]
    for more in shots[1:]:
        attempt((best, more))
    return lost
