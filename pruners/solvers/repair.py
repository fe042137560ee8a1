"""Repair: the best weights on a given mask, by preconditioned conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pruners.solvers.base import Solution
from pruners.solvers.damping import shrinkage
from pruners.solvers.matrix import narrowed
from pruners.solvers.two_sided import (
    fit_on_support_two_sided,
    is_diagonal,
    regular,
    two_sided_error,
)

STEPS = 20
# Steps end when one gains less than this share of the error that is left.
TOLERANCE = 1e-3


def repair(
    original: torch.Tensor,
    solution: Solution,
    hessian: torch.Tensor,
    steps: int = STEPS,
    damping: float | None = None,
    curvature: torch.Tensor | None = None,
) -> Solution:
    """The same mask with weights refitted to the original's outputs; never worse in any row.

    Args:
        original: dense matrix (out, in).
        solution: a pruned matrix; its mask stays, its weights are the starting point.
        hessian: H ∝ XXᵀ over the columns, (in, in).
        steps: conjugate-gradient steps, at most.
        damping: share of its diagonal that is added to the Hessian; None for the default of
            `pruners.solvers.damping.shrinkage` for an unknown number of samples.
        curvature: G of the outputs, (out, out): the error of all rows together is then tr(G ΔW H
            ΔWᵀ), and never worse than it was; None, or a diagonal one, for every row by itself.

    Returns:
        A solution in the dtype of the original; `statistics["error"]` is ‖(W − W')X‖² / ‖WX‖², with
        a curvature in its metric.
    """
    wide = torch.promote_types(original.dtype, torch.float32)
    share = shrinkage(hessian.to(wide), None) if damping is None else damping
    if curvature is not None and not is_diagonal(curvature):
        return _repair_two_sided(original, solution, hessian, curvature, steps, share)
    return repair_many([original], [solution], [hessian], steps, [share])[0]


def repair_many(
    originals: Sequence[torch.Tensor],
    solutions: Sequence[Solution],
    hessians: Sequence[torch.Tensor],
    steps: int,
    dampings: Sequence[float],
) -> list[Solution]:
    """`repair` of matrices of one shape and dtype as one batch; each stops when it is done."""
    dtype = originals[0].dtype
    wide = torch.promote_types(dtype, torch.float32)
    h, dense = _stack(hessians).to(wide), _stack(originals).to(wide)
    start = _stack([solution.weight for solution in solutions])
    mask = _stack([solution.mask for solution in solutions])
    shares = torch.tensor(dampings, dtype=wide, device=h.device)
    after, taken = fit_on_support(dense, start.to(wide), mask, h, steps, shares, TOLERANCE)
    weight = narrowed(after, dtype)
    before, fitted = (row_errors(dense, candidate.to(wide), h) for candidate in (start, weight))
    # Damping and rounding to a narrow dtype can cost more than the fit gains.
    better = fitted < before
    weight = torch.where(better[..., None], weight, start)
    energy = row_errors(dense, torch.zeros_like(dense), h).sum(-1)
    error = torch.where(better, fitted, before).sum(-1) / energy.clamp_min(torch.finfo(wide).tiny)
    return [
        replace(
            solution,
            weight=weight[i],
            status=f"{solution.status} Refitted by {count} conjugate-gradient steps.",
            statistics={**solution.statistics, "error": lost},
        )
        for i, (solution, count, lost) in enumerate(
            zip(solutions, taken.tolist(), error.tolist(), strict=True)
        )
    ]


def _repair_two_sided(
    original: torch.Tensor,
    solution: Solution,
    hessian: torch.Tensor,
    curvature: torch.Tensor,
    steps: int,
    damping: float,
) -> Solution:
    """`repair` where rows share curvature."""
    dtype = original.dtype
    wide = torch.promote_types(dtype, torch.float32)
    dense, h, g = original.to(wide), hessian.to(wide), regular(curvature.to(wide))
    damped = h.clone()
    damped.diagonal().mul_(1.0 + damping)
    start = solution.weight.to(wide)
    after, taken = fit_on_support_two_sided(
        dense, start, solution.mask, damped, g, steps, TOLERANCE
    )
    weight = narrowed(after, dtype)
    before, fitted = (two_sided_error(dense - w.to(wide), h, g) for w in (start, weight))
    if not fitted < before:
        weight, fitted = solution.weight, before
    energy = two_sided_error(dense, h, g).clamp_min(torch.finfo(wide).tiny)
    return replace(
        solution,
        weight=weight,
        status=f"{solution.status} Refitted by {taken} conjugate-gradient steps on both sides.",
        statistics={**solution.statistics, "error": max(0.0, (fitted / energy).item())},
    )


def _stack(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """(batch, ...); a view where there is only one."""
    return torch.stack(list(matrices)) if len(matrices) > 1 else matrices[0][None]


def row_errors(dense: torch.Tensor, pruned: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """(w − w') H (w − w')ᵀ of every row; (..., out, in) twice and (..., in, in) → (..., out)."""
    change = dense - pruned
    return ((change @ h) * change).sum(-1).clamp_min(0.0)


def fit_on_support(
    dense: torch.Tensor,
    start: torch.Tensor,
    mask: torch.Tensor,
    h: torch.Tensor,
    steps: int,
    damping: float | torch.Tensor,
    tolerance: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Argmin over w' supported on the mask of (w − w')(H + λ diag H)(w − w')ᵀ, all rows at once.

    Each row is its own system on its own support; they share the products with H. The
    preconditioner is the diagonal (Meng et al. 2024, "ALPS", §3.2).

    Args:
        dense: w, (..., out, in), float32 or float64.
        start: starting point, (..., out, in); entries outside the mask are ignored.
        mask: bool, (..., out, in).
        h: H, (..., in, in), the dtype of `dense`.
        steps: number of steps, at most.
        damping: λ, (...,) or one for all.
        tolerance: share of the remaining error, over all rows of a matrix, that a step must gain to
            be followed by another.

    Returns:
        w', (..., out, in), zero outside the mask, and the number of steps taken, (...,).
    """
    diagonal = h.diagonal(dim1=-2, dim2=-1)
    shifted = diagonal * (1.0 + torch.as_tensor(damping, dtype=h.dtype, device=h.device)[..., None])
    damped = h.clone()
    damped.diagonal(dim1=-2, dim2=-1).copy_(shifted)
    scale = torch.where(diagonal > 0, 1.0 / shifted.clamp_min(1e-30), 0.0)[..., None, :]
    support = mask.to(dense.dtype)
    tiny = torch.finfo(dense.dtype).tiny

    point = start * support
    residual = torch.matmul(dense - point, damped)
    objective = ((dense - point) * residual).sum((-2, -1))
    residual.mul_(support)
    direction = residual * scale
    image, scratch = torch.empty_like(point), torch.empty_like(point)
    strength = torch.mul(residual, direction, out=scratch).sum(-1, keepdim=True)
    active = torch.ones_like(objective)
    taken = torch.zeros_like(objective)
    for _ in range(steps):
        torch.matmul(direction, damped, out=image).mul_(support)
        curvature = torch.mul(direction, image, out=scratch).sum(-1, keepdim=True)
        length = strength / curvature.clamp_min_(tiny) * active[..., None, None]
        point.addcmul_(length, direction)
        taken += active
        if tolerance:
            gain = (length * strength).sum((-2, -1))
            objective -= gain
            active *= gain > tolerance * objective
            if not active.any():
                break
        residual.addcmul_(length, image, value=-1)
        conditioned = torch.mul(residual, scale, out=image)
        following = torch.mul(residual, conditioned, out=scratch).sum(-1, keepdim=True)
        direction.mul_(following / strength.clamp_min_(tiny)).add_(conditioned)
        strength = following
    return point, taken.int()
