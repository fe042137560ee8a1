r"""Descent over rotations: M ← (I + η S / 2)⁻¹ (I − η S / 2) M, S skew, its steps those of Adam.

S is the skew part of ∂L/∂M Mᵀ, and the Cayley transform of a skew matrix is a rotation, so M stays
one by construction (Wen & Yin 2013, eq. 7). Beside M there are its gradient and two moments in
memory, and what one term of the objective needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import cos, pi

import torch

Objective = Sequence[Callable[[Mapping[str, torch.Tensor]], torch.Tensor]]
"""Terms of a sum: (axis → matrix, float32) → a scalar."""

RATE, BETAS = 0.05, (0.9, 0.95)

QUIET = 1e-4
"""What Adam adds to the size of a slope, as a share of the largest: rounding is no direction."""


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
        slopes = _slopes(objective, leaves)
        for axis, point in points.items():
            skew = slopes[axis] @ point.mT
            skew = (skew - skew.mT) / 2
            if axis in ones:
                skew = without_ones(skew)
            first[axis].lerp_(skew, 1 - BETAS[0])
            second[axis].lerp_(skew.square(), 1 - BETAS[1])
            mean = first[axis] / (1 - BETAS[0] ** (step + 1))
            spread = second[axis] / (1 - BETAS[1] ** (step + 1))
            size = spread.sqrt()
            move = mean / (size + QUIET * size.max()).clamp_min(torch.finfo(size.dtype).tiny)
            if axis in ones:
                move = without_ones(move)
            points[axis] = _cayley(angle * move) @ point
    return {axis: orthogonal(point) for axis, point in points.items()}


def _slopes(objective: Objective, leaves: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The gradient of a sum, term by term, float64."""
    found = {axis: torch.zeros_like(leaf, dtype=torch.float64) for axis, leaf in leaves.items()}
    for term in objective:
        with torch.enable_grad():
            value = term(leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        for total, slope in zip(found.values(), slopes, strict=True):
            if slope is not None:
                total += slope
    return found


def _cayley(skew: torch.Tensor) -> torch.Tensor:
    """(I + A/2)⁻¹ (I − A/2), a rotation by about −A."""
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return torch.linalg.solve(one + skew / 2, one - skew / 2)


def without_ones(matrix: torch.Tensor) -> torch.Tensor:
    """P A P with P = I − 11ᵀ/n: what a matrix does in the complement of the vector of ones."""
    rows = matrix - matrix.mean(-1, keepdim=True)
    return rows - rows.mean(-2, keepdim=True)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrix, float64; it keeps a vector that the matrix keeps."""
    left, _, right = torch.linalg.svd(matrix.double())
    return left @ right
