"""Expected loss over masks: shares of tensors, and prunings that are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.projection import bounds
from pruners.budgets.registry import rule
from pruners.budgets.rules.expected_loss.options import SMALL, check_evaluations, check_number
from pruners.budgets.searching.judge import Judge as Counted
from pruners.budgets.searching.judge import check_search
from pruners.budgets.searching.surrogate import Proposal, improve
from pruners.curves import (
    Curve,
    ExpectedLoss,
    Judge,
    Paired,
    Prediction,
    Sides,
    SumOfLosses,
    Value,
    damage_of,
    mask_curves,
    spend,
)
from pruners.curves.masks import HELD
from pruners.solvers import build
from pruners.solvers.matrix import Rows
from pruners.solvers.zeros import MaskPattern

QUICK = "sparsegpt"
"""Draws the curves of large networks."""


@rule("expected-loss", divides="masks")
def expected_loss_masks(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    expected: ExpectedLoss,
    solver: str = "admm",
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, Rows] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
    rounds: int | None = None,
    evaluations: int = 0,
    seed: int = 0,
    journal: str | Path | None = None,
) -> dict[str, float]:
    """Minimise Σ ½ tr(G ΔW H ΔWᵀ) over kept shares, ΔW as the solver leaves it at each share.

    With evaluations the shares are the first of several: each is solved in order on three quarters
    of the calibration and judged on the rest, and a surrogate proposes the next
    (`pruners.budgets.searching.surrogate`).

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        expected: both sides of the weights; those that were not measured keep the common share.
        solver: that will prune; curves of large networks are drawn with a faster one, and so are
            those of solvers that read gradients of weights.
        pattern, out_dims, lower, upper: see `MaskProblem`.
        rounds: times that shares are found, each time but the first with the curvature of the
            network that the last ones leave, solved in order; None for 2, for large networks 1.
        evaluations: prunings that are judged.
        seed: of the proposals.
        journal: file that lets interrupted proposals continue; see `Judge` of
            `pruners.budgets.searching`.

    Raises:
        ValueError: an option that is none; or evaluations are asked, and there is nothing to judge
            by.
    """
    check_number("rounds", rounds)
    check_evaluations(evaluations)
    check_search(seed, journal)
    zeros = MaskPattern.parse(pattern)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    floor = dict(zip(weights, bounds(lower, weights, 0.0).tolist(), strict=True))
    high = dict(zip(weights, bounds(upper, weights, 1.0).tolist(), strict=True))
    least = zeros.least / zeros.m if zeros.m else 0.0
    low = {name: max(share, least) for name, share in floor.items()}
    large = sum(sizes.values()) > SMALL
    able = solver if build(solver).needs <= HELD else QUICK
    way = _Way(zeros, able, QUICK if large else able, rounds or (1 if large else 2))
    division = _Division(sizes, density, low, high, way)
    shares, curves = division.of(expected)
    expected.prediction = Prediction(curves, shares)
    if not evaluations:
        return shares
    apart = expected.judged_apart(insist=True)
    assert apart is not None
    part, judge = apart
    first, known = division.of(part)
    # What was not measured keeps its share: nothing is expected of it that could propose another.
    rest = {name: share for name, share in first.items() if name not in known}
    dials = {name: weight for name, weight in weights.items() if name in known}
    if not dials:
        raise ValueError(
            "evaluations have nothing to divide: the inputs of no weight here are measured; leave "
            "them out"
        )
    left = density * sum(sizes.values()) - sum(rest[name] * sizes[name] for name in rest)
    problem = MaskProblem(
        dials,
        min(1.0, max(0.0, left / sum(sizes[name] for name in dials))),
        None,
        zeros,
        out_dims,
        {name: floor[name] for name in dials},
        {name: high[name] for name in dials},
    )

    def kept(choice: Choice) -> dict[str, float]:
        return {**dict(zip(problem.dials, problem.shares(choice).tolist(), strict=True)), **rest}

    begin = problem.realise(problem.start(first))
    choice, proposals = _judged(
        problem,
        SumOfLosses(problem.dials, known, problem.levels.whole),
        begin,
        lambda choice: part.masked(kept(choice), able, zeros),
        judge,
        evaluations=evaluations,
        seed=seed,
        journal=journal,
        subject=f"{able} {zeros}",
    )
    expected.candidates = [one.to_json(problem.dials) for one in proposals]
    measured = {one.choice: one.measured for one in proposals}
    expected.tried = {
        "shares of least expected loss": measured[begin],
        "the best of a surrogate": measured[choice],
    }
    if choice == begin:
        return shares
    expected.prediction = Prediction(curves, kept(choice))
    return kept(choice)


@dataclass(frozen=True)
class _Way:
    """How masks are found while a budget is divided.

    Args:
        zeros: where they may fall.
        solver: that prunes.
        drawing: solver that curves are drawn with.
        rounds: divisions, each but the first with the curvature of what the one before it left.
    """

    zeros: MaskPattern
    solver: str
    drawing: str
    rounds: int


@dataclass(frozen=True)
class _Division:
    """Shares of least expected loss.

    Args:
        sizes: tensor name → numbers.
        density: kept share of all of them.
        low, high: bounds of the shares.
        way: how masks are found.
    """

    sizes: Mapping[str, int]
    density: float
    low: Mapping[str, float]
    high: Mapping[str, float]
    way: _Way

    def of(self, expected: ExpectedLoss) -> tuple[dict[str, float], dict[str, Curve]]:
        """The shares, and curves of the tensors that were measured."""
        shares, curves = self._once(expected.sides)
        for _ in range(self.way.rounds - 1):
            left = expected.masked(shares, self.way.solver, self.way.zeros)
            shares, curves = self._once(expected.curved_by(left))
        return shares, curves

    def _once(self, measured: Mapping[str, Sides]) -> tuple[dict[str, float], dict[str, Curve]]:
        known = {name: measured[name] for name in self.sizes if name in measured}
        curves = mask_curves(known, self.way.drawing, self.way.zeros)
        rest = {
            name: min(max(self.density, self.low[name]), self.high[name])
            for name in self.sizes
            if name not in curves
        }
        total = self.density * sum(self.sizes.values())
        total -= sum(rest[name] * self.sizes[name] for name in rest)
        return {**spend(curves, self.sizes, total, self.low, self.high), **rest}, curves


def _judged(
    problem: MaskProblem,
    value: Value,
    begin: Choice,
    prune: Callable[[Choice], nn.Module],
    judge: Judge,
    *,
    evaluations: int,
    seed: int,
    journal: str | Path | None,
    subject: str,
) -> tuple[Choice, list[Proposal]]:
    """The best choice by all that was judged, and that: `begin`, then what a surrogate proposes."""
    paired = Paired(judge)
    generator = torch.Generator().manual_seed(seed)
    with Counted(
        lambda choice: damage_of(lambda: prune(choice), paired),
        evaluations,
        f"expected loss {problem.dials} {begin} {subject} {seed}",
        journal,
        "expected loss",
        Paired.pairs,
        infinite=True,
    ) as counted:
        return improve(problem, value, [begin], counted, generator, lambda: paired.deviation)
