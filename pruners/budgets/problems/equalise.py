"""Equal marginal price: move a budget to where one more unit of cost lowers the loss the most."""

from __future__ import annotations

import torch

from pruners.budgets.problems.problem import Choice, Problem, finite

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
