"""Search: measure budgets instead of predicting their loss, from any rule's budget upwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from pruners.budgets.problems.masks import MaskProblem, Solve
from pruners.budgets.problems.problem import Choice, Loss
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule
from pruners.budgets.rules.global_threshold import global_ranks
from pruners.budgets.rules.price import first
from pruners.budgets.searching.best import EVALUATIONS, best_choice
from pruners.solvers.matrix import Rows
from pruners.solvers.zeros import MaskPattern


@rule("search", divides="masks")
def search_masks(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
    start: Mapping[str, float] | None = None,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, Rows] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
    solve: Solve | None = None,
) -> dict[str, float]:
    """The best of many budgets by the loss with exact masks; forward passes only.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: values → loss; its `value` is used where it has one.
        evaluations: budgets that are measured, the first one included.
        method: "evolution" or "policy-gradient".
        seed: of all random choices.
        journal: file that lets an interrupted search continue; see `Judge`.
        start: kept share by tensor name; default the better of LAMP and one global threshold,
            which takes two more forward passes. The result is never worse.
        pattern, out_dims, lower, upper, solve: see `MaskProblem`.

    Raises:
        ValueError: an unknown method, the journal of another search, or a loss that is not finite.
    """
    problem = MaskProblem(weights, density, loss, pattern, out_dims, lower, upper, solve)
    if problem.total in (0, sum(problem.sizes)):
        return dict.fromkeys(weights, float(density))
    begin = first(problem, weights, density, start)
    choice, _ = best_choice(problem, begin, evaluations, method, seed, journal)
    return dict(zip(weights, problem.shares(choice).tolist(), strict=True))


@rule("search", divides="widths")
def search_widths(
    request: Request,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
    start: str = "global",
) -> Kept:
    """The best of many widths by the loss of the faded network; forward passes only.

    Args:
        request: what is asked.
        loss: values → loss.
        evaluations, method, seed, journal: see `search_masks`.
        start: "global" or "uniform"; the result is never worse.

    Raises:
        ValueError: as `search_masks`.
    """
    if start not in ("global", "uniform"):
        raise ValueError(f'a search of widths starts from "global" or "uniform" (got {start!r})')
    problem = request.problem(loss)
    kept = request.select(request.scores, start)
    begin = problem.logits(tuple(len(kept[axis]) for axis in problem.dials))
    choice, value = best_choice(problem, begin, evaluations, method, seed, journal)
    return problem.kept(choice) if value < problem.loss_of(kept) else kept


@rule("search", divides="ranks")
def search_ranks(
    problem: RankProblem,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
) -> Choice:
    """The best of many ranks by the loss, from the rule "global"; never worse than it.

    Args:
        problem: the budget.
        loss: values → loss.
        evaluations, method, seed, journal: see `search_masks`.
    """
    problem = problem.with_loss(loss)
    begin = global_ranks(problem)
    start = problem.logits(begin)
    choice, value = best_choice(problem, start, evaluations, method, seed, journal)
    return choice if value < problem.loss(begin) else begin
