"""Price budget: where one more unit of cost lowers the loss as much everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.equalise import RATE, STEPS, equalise
from pruners.budgets.problems.masks import MaskProblem, Solve
from pruners.budgets.problems.problem import Choice, Loss
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule
from pruners.budgets.rules.global_threshold import global_masks, global_ranks
from pruners.budgets.rules.lamp import lamp
from pruners.solvers.matrix import Rows
from pruners.solvers.zeros import MaskPattern

RANK_RATE = 0.25
"""First η for ranks: smaller than for masks, because a rank more is a larger step."""


@rule("price", divides="masks")
def price_masks(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss,
    steps: int = STEPS,
    rate: float = RATE,
    start: Mapping[str, float] | None = None,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, Rows] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
    solve: Solve | None = None,
) -> dict[str, float]:
    r"""Equal marginal price over tensors; see `equalise`.

    With the soft mask s around the threshold of tensor l, and g the gradient at the pruned weights,

        b_l = Σ g·w·s(1 − s) / Σ s(1 − s)

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: weights by name → (loss, gradient by name), differentiable at zeros.
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.
        start: kept share by tensor name; default the better of LAMP and one global threshold.
        pattern, out_dims, lower, upper, solve: see `MaskProblem`.

    Raises:
        ValueError: a loss that is not finite.
    """
    problem = MaskProblem(weights, density, loss, pattern, out_dims, lower, upper, solve)
    if problem.total in (0, sum(problem.sizes)):
        return dict.fromkeys(weights, float(density))
    choice, _ = equalise(problem, first(problem, weights, density, start), steps, rate)
    return dict(zip(weights, problem.shares(choice).tolist(), strict=True))


def first(
    problem: MaskProblem,
    weights: Mapping[str, torch.Tensor],
    density: float,
    start: Mapping[str, float] | None,
) -> torch.Tensor:
    """Logits to start from: those of the given shares, else of the better of two good rules.

    Which of them is better depends on the network and the target, and forward passes tell.
    """
    if start is not None:
        return problem.start(start)
    ways = [problem.start(way(weights, density)) for way in (lamp, global_masks)]
    return min(ways, key=lambda logits: problem.loss(problem.realise(logits)))


@rule("price", divides="widths")
def price_widths(request: Request, *, loss: Loss, steps: int = STEPS, rate: float = RATE) -> Kept:
    """Equal marginal price over axes: what a unit is worth, by what it costs; see `equalise`.

    Starts from one global threshold over the scores; the result is never worse.

    Args:
        request: what is asked.
        loss: values → (loss, gradients).
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.
    """
    problem = request.problem(loss)
    kept = request.select(request.scores)
    begin = tuple(len(kept[axis]) for axis in problem.dials)
    choice, value = equalise(problem, problem.logits(begin), steps, rate)
    return problem.kept(choice) if value < problem.loss_of(kept) else kept


@rule("price", divides="ranks")
def price_ranks(
    problem: RankProblem, *, loss: Loss, steps: int = STEPS, rate: float = RANK_RATE
) -> Choice:
    """Equal marginal price over ranks, from the rule "global"; see `equalise`.

    Args:
        problem: the budget.
        loss: values → (loss, gradients).
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.
    """
    problem = problem.with_loss(loss)
    begin = global_ranks(problem)
    choice, value = equalise(problem, problem.logits(begin), steps, rate)
    return choice if value < problem.loss(begin) else begin
