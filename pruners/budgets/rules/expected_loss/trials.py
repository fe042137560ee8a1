"""Prunings that are carried out on trial, and widths that a surrogate proposes after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.problems.widths import WidthProblem
from pruners.budgets.rules.expected_loss.shots import assumed, worths
from pruners.budgets.searching.judge import Judge as Counted
from pruners.budgets.searching.surrogate import foreseen, improve
from pruners.curves import (
    AxisCurve,
    ExpectedLoss,
    Judge,
    Paired,
    Prediction,
    SumOfLosses,
    Value,
    axis_curves,
    damage_of,
)
from pruners.targets import Target


class Trials:
    """Damages of prunings, each judged once.

    Args:
        prune: kept units → module.
        judge: of modules.
        limit: how many are judged; None for as many as are asked.

    Attributes:
        named: name of a way → damage.
        candidates: what a plan records of proposals: kept units by dial, the damage that was
            predicted when they were proposed, and the one that was measured.
    """

    def __init__(self, prune: Callable[[Kept], nn.Module], judge: Judge, limit: int | None) -> None:
        self._prune, self.judge, self._limit = prune, Paired(judge), limit
        self._known: dict[Any, tuple[float, Kept]] = {}
        self.named: dict[str, float] = {}
        self.candidates: list[dict[str, Any]] = []

    @property
    def left(self) -> int:
        """How many more may be judged, where there is a limit; else none."""
        return 0 if self._limit is None else max(0, self._limit - len(self._known))

    @property
    def spent(self) -> bool:
        """Whether nothing more may be judged."""
        return self._limit is not None and self.left == 0

    @property
    def best(self) -> tuple[float, Kept]:
        """The least damage so far, and what it keeps."""
        return min(self._known.values(), key=lambda known: known[0])

    @property
    def least(self) -> float:
        """The least damage so far; infinite before any."""
        return min((damage for damage, _ in self._known.values()), default=inf)

    def knows(self, kept: Kept) -> bool:
        """Whether it was judged."""
        return _key(kept) in self._known

    def __call__(self, kept: Kept, name: str | None = None) -> float:
        """The damage of a pruning; infinite where what it leaves computes NaN."""
        key = _key(kept)
        if key not in self._known:
            self._known[key] = damage_of(lambda: self._prune(kept), self.judge), kept
        if name is not None:
            self.named[name] = self._known[key][0]
        return self._known[key][0]


Foresee: TypeAlias = Callable[
    [ExpectedLoss, Mapping[str, AxisCurve], Sequence[str], Sequence[int], Target], Value
]
"""(Expected losses, curves of axes, dials and their sizes, target) → what budgets are worth."""


def foreseeing(
    request: Request, expected: ExpectedLoss, order: str, foresee: Foresee | None
) -> tuple[WidthProblem, Value, Mapping[str, AxisCurve]]:
    """Budgets of widths, what they are expected to do, and the curves behind it.

    Args:
        request: what is asked.
        expected: both sides of the weights.
        order: of the units inside an axis.
        foresee: what is expected of budgets; None for the sum of expected losses.
    """
    curves = axis_curves(request.net, expected.sides, request.scores, request.scores, order)
    scores = ranked(request, curves)
    problem = WidthProblem(
        request.net, scores, request.target, None, request.min_units, request.round_to, request.cut
    )
    if foresee is None:
        worth = worths(request, curves)
        known = {a: curves[a].curve if a in curves else assumed(worth[a]) for a in problem.dials}
        return problem, SumOfLosses(problem.dials, known, problem.sizes), curves
    value = foresee(expected, curves, problem.dials, problem.sizes, request.target)
    return problem, value, curves


def further(
    request: Request,
    part: ExpectedLoss,
    order: str,
    trials: Trials,
    seed: int,
    journal: str | Path | None,
    foresee: Foresee | None = None,
) -> Choice | None:
    """Widths that are better than all that was tried, by what trials are left; None without.

    Args:
        request: what is asked.
        part: of the examples that trials are fitted to.
        order: of the units inside an axis.
        trials: what was judged, and the judge.
        seed: of the proposals.
        journal: file that lets them continue.
        foresee: what is expected of budgets; None for the sum of expected losses.
    """
    if not trials.left:
        return None
    before, best = trials.best
    problem, value, _ = foreseeing(request, part, order, foresee)
    generator = torch.Generator().manual_seed(seed)
    begin = [tuple(len(best[axis]) for axis in problem.dials)]
    fresh = trials.left + (1 if trials.knows(problem.kept(begin[0])) else 0)
    if foresee is not None:
        begin.append(foreseen(problem, value, begin, generator))
    subject = f"expected loss {problem.dials} {begin} {order} {seed}"

    def measure(widths: Choice) -> float:
        return trials(problem.kept(widths))

    with Counted(
        measure, fresh, subject, journal, "expected loss", Paired.pairs, infinite=True
    ) as counted:
        choice, proposals = improve(
            problem, value, begin, counted, generator, lambda: trials.judge.deviation
        )
    trials.candidates += [one.to_json(problem.dials) for one in proposals]
    trials.named["the best of a surrogate"] = lost = counted.measured[choice]
    return choice if lost < before else None


def predicted(curves: Mapping[str, AxisCurve], kept: Kept) -> Prediction:
    """What kept units are expected to cost by the curves of their axes."""
    known = {axis: one.curve for axis, one in curves.items()}
    return Prediction(known, {axis: float(len(kept[axis])) for axis in known})


def ranked(request: Request, curves: Mapping[str, AxisCurve]) -> dict[str, torch.Tensor]:
    """Scores of units that put them in the order of curves; without a curve their own."""
    found = {}
    for axis, given in request.scores.items():
        found[axis] = given.detach().cpu().double()
        if axis in curves:
            size = len(given)
            found[axis] = torch.empty(size, dtype=torch.float64)
            found[axis][curves[axis].order] = -torch.arange(size, dtype=torch.float64)
    return found


def _key(kept: Kept) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((axis, tuple(index.tolist())) for axis, index in sorted(kept.items()))
