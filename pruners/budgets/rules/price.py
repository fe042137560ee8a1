"""Equal marginal price: move the budget to where one more unit of cost lowers the loss the most."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.channels import Kept, Request, channel_allocator
from pruners.budgets.problems.masks import MaskProblem, Solve, marginal_price
from pruners.budgets.problems.problem import Choice, Loss, Problem, finite
from pruners.budgets.registry import allocator
from pruners.budgets.rules.global_threshold import global_magnitude
from pruners.budgets.rules.lamp import lamp
from pruners.solvers.zeros import MaskPattern

__all__ = ["equalise", "marginal_price", "price"]

STEPS = 8
RATE = 1.0
MOMENTUM = 0.6
LEAST_ROOM = 1e-3
"""Dials with less than this share of the mean room do not set the length of a step."""


def equalise(
    problem: Problem, start: torch.Tensor, steps: int = STEPS, rate: float = RATE
) -> tuple[Choice, float]:
    r"""Descend on the logits of the shares until a unit of cost is worth the same everywhere.

    At the current choice one backward pass gives the price b of every dial, the change of the loss
    for each further unit of cost, and the market price that the budget allows:

        λ = Σ b_l n_l k_l(1 − k_l) / Σ n_l k_l(1 − k_l)
        θ_l ← θ_l − η·v_l,     v ← 0.6 v + (b − λ) / max|b − λ|,     choice = realise(θ)

    η falls linearly to 0. The maximum is that of dials with room to move: one that is full, or
    tiny, would otherwise hold up all others with a price that nothing can be made of. What a dial
    is (a tensor's weights, its N:M groups, its rank, the
    channels of an axis) and what it costs is the problem's affair.

    Args:
        problem: the budget.
        start: first logits, (L,).
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.

    Returns:
        The best choice seen by its loss with exact masks, and that loss.

    Raises:
        ValueError: a loss that is not finite.
    """
    theta = start.double().clone()
    velocity = torch.zeros_like(theta)
    best: tuple[Choice, float] | None = None
    for step in range(steps + 1):
        choice = problem.realise(theta)
        value, prices = problem.prices(choice)
        finite(value, f"step {step}")
        if best is None or value < best[1]:
            best = choice, value
        if step == steps:
            break
        room = problem.room(choice)
        excess = prices - (prices * room).sum() / room.sum().clamp_min(1e-30)
        scale = excess[room >= LEAST_ROOM * room.mean()].abs().max().clamp_min(1e-30)
        velocity = MOMENTUM * velocity + (excess / scale).clamp(-1, 1)
        theta = theta - rate * (1 - step / steps) * velocity
    assert best is not None
    return best


@allocator("price")
def price(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss,
    steps: int = STEPS,
    rate: float = RATE,
    start: Mapping[str, float] | None = None,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, int] | None = None,
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
    ways = [problem.start(rule(weights, density)) for rule in (lamp, global_magnitude)]
    return min(ways, key=lambda logits: problem.loss(problem.realise(logits)))


@channel_allocator("price")
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
