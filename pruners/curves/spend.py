"""Spending a budget over curves: the steepest steps first, which is one price for all."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.curves.curve import Curve

POINTS = 100
"""Steps into which the room of a tensor is divided."""
ROOM = 1e-12
"""Shares that differ by less are one: no steps fit between them."""


def spend(
    curves: Mapping[str, Curve],
    sizes: Mapping[str, int],
    total: float,
    lower: Mapping[str, float],
    upper: Mapping[str, float],
) -> dict[str, float]:
    """Shares of tensors with the least sum of losses within a budget.

    The optimum over the convex hulls of the curves: every step that is bought is worth at least the
    price, and one step at most is bought in part (Everett 1963, generalised Lagrange multipliers).

    Args:
        curves: tensor name → loss over its kept share.
        sizes: numbers that each of them stores whole.
        total: numbers that may stay altogether.
        lower, upper: bounds of the shares, by name.

    Returns:
        Tensor name → kept share, on the budget where the bounds allow it.
    """
    share = {name: lower[name] for name in curves}
    left = total - sum(share[name] * sizes[name] for name in curves)
    worth, owner, reach = [], [], []
    for i, (name, curve) in enumerate(curves.items()):
        low, high = lower[name], upper[name]
        if high - low < ROOM:
            continue
        points = [low + (high - low) * k / POINTS for k in range(POINTS + 1)]
        slopes = Curve(tuple(points), tuple(curve.sampled(points))).slopes() / sizes[name]
        worth.append(slopes)
        owner += [i] * POINTS
        reach += points[1:]
    if not worth:
        return share
    names = list(curves)
    order = torch.cat(worth).argsort(descending=True, stable=True).tolist()
    for k in order:
        if left <= 0:
            break
        name = names[owner[k]]
        step = min((reach[k] - share[name]) * sizes[name], left)
        share[name] += step / sizes[name]
        left -= step
    return share
