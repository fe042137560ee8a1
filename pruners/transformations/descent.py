r"""Descent over rotations: M ← exp(−η S) M, S the skew part of ∂L/∂M Mᵀ, its steps those of Adam.

M stays a rotation by construction, and nothing is differentiated through an exponential; beside M
itself there are its gradient and two moments in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi

import torch

Objective = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""Axis → matrix, float32; a scalar."""

RATE, BETAS, TINY = 0.05, (0.9, 0.95), 1e-30


def descend(
    start: Mapping[str, torch.Tensor],
    objective: Objective,
    steps: int,
    ones: frozenset[str] = frozenset(),
    rate: float = RATE,
) -> dict[str, torch.Tensor]:
    """Rotations with a smaller objective.

    Args:
        start: axis → rotation, float64, (..., units, units).
        objective: to be made small.
        steps: how many.
        ones: axes whose rotations keep the vector of ones, as those of the start do.
        rate: angle of the first step, in radians per pair of units; falls to 0 along a cosine.

    Returns:
        Axis → rotation, float64, orthogonal to rounding.
    """
    points = {axis: matrix.double() for axis, matrix in start.items()}
    first = {axis: torch.zeros_like(matrix) for axis, matrix in points.items()}
    second = {axis: torch.zeros_like(matrix) for axis, matrix in points.items()}
    for step in range(steps):
        angle = rate * (1 + cos(pi * step / steps)) / 2
        leaves = {axis: m.float().requires_grad_() for axis, m in points.items()}
        with torch.enable_grad():
            slopes = torch.autograd.grad(objective(leaves), list(leaves.values()))
        for (axis, point), slope in zip(points.items(), slopes, strict=True):
            skew = slope.double() @ point.mT
            skew = (skew - skew.mT) / 2
            if axis in ones:
                skew = without_ones(skew)
            first[axis].lerp_(skew, 1 - BETAS[0])
            second[axis].lerp_(skew.square(), 1 - BETAS[1])
            mean = first[axis] / (1 - BETAS[0] ** (step + 1))
            spread = second[axis] / (1 - BETAS[1] ** (step + 1))
            move = mean / spread.sqrt().clamp_min(TINY)
            if axis in ones:
                move = without_ones(move)
            points[axis] = torch.linalg.matrix_exp(-angle * move) @ point
    return {axis: orthogonal(point) for axis, point in points.items()}


def without_ones(matrix: torch.Tensor) -> torch.Tensor:
    """P A P with P = I − 11ᵀ/n: what a matrix does in the complement of the vector of ones."""
    rows = matrix - matrix.mean(-1, keepdim=True)
    return rows - rows.mean(-2, keepdim=True)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrix, float64; it keeps a vector that the matrix keeps."""
    left, _, right = torch.linalg.svd(matrix.double())
    return left @ right
