"""Repair: the best weights on a given mask, by preconditioned conjugate gradients."""

from __future__ import annotations

from dataclasses import replace

import torch

from pruners.solvers.base import Solution
from pruners.solvers.damping import shrinkage

STEPS = 20
# Steps end when one gains less than this share of the error that is left.
TOLERANCE = 1e-3


def repair(
    original: torch.Tensor,
    solution: Solution,
    hessian: torch.Tensor,
    steps: int = STEPS,
    damping: float | None = None,
) -> Solution:
    """The same mask with weights refitted to the original's outputs; never worse in any row.

    Args:
        original: dense matrix (out, in).
        solution: a pruned matrix; its mask stays, its weights are the starting point.
        hessian: H ∝ XXᵀ over the columns, (in, in).
        steps: conjugate-gradient steps, at most.
        damping: share of its diagonal that is added to the Hessian; None for the default of
            `pruners.solvers.damping.shrinkage` for an unknown number of samples.

    Returns:
        A solution in the dtype of the original; `statistics["error"]` is ‖(W − W')X‖² / ‖WX‖².
    """
    wide = torch.promote_types(original.dtype, torch.float32)
    h = hessian.to(wide)
    dense, before = original.to(wide), solution.weight.to(wide)
    share = shrinkage(h, None) if damping is None else damping
    after, taken = fit_on_support(dense, before, solution.mask, h, steps, share, TOLERANCE)
    weight = after.to(original.dtype)
    rows_before, rows_after = (
        row_errors(dense, candidate.to(wide), h) for candidate in (solution.weight, weight)
    )
    # Damping and rounding to a narrow dtype can cost more than the fit gains.
    better = rows_after < rows_before
    energy = row_errors(dense, torch.zeros_like(dense), h).sum().clamp_min(torch.finfo(wide).tiny)
    error = torch.where(better, rows_after, rows_before).sum() / energy
    return replace(
        solution,
        weight=torch.where(better[:, None], weight, solution.weight),
        status=f"{solution.status} Refitted by {taken} conjugate-gradient steps.",
        statistics={**solution.statistics, "error": error.item()},
    )


def row_errors(dense: torch.Tensor, pruned: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """(w − w') H (w − w')ᵀ of every row; shapes (out, in), (out, in), (in, in) → (out,)."""
    change = dense - pruned
    return ((change @ h) * change).sum(1).clamp_min(0.0)


def fit_on_support(
    dense: torch.Tensor,
    start: torch.Tensor,
    mask: torch.Tensor,
    h: torch.Tensor,
    steps: int,
    damping: float,
    tolerance: float = 0.0,
) -> tuple[torch.Tensor, int]:
    r"""Argmin over w' supported on the mask of (w − w')(H + λ diag H)(w − w')ᵀ, all rows at once.

    Each row is its own system on its own support; they share the products with H. The
    preconditioner is the diagonal (Meng et al. 2024, "ALPS", §3.2).

    Args:
        dense: w, (out, in), float32 or float64.
        start: starting point, (out, in); entries outside the mask are ignored.
        mask: bool, (out, in).
        h: H, (in, in), the dtype of `dense`.
        steps: number of steps, at most.
        damping: λ.
        tolerance: share of the remaining error, over all rows, that a step must gain to be followed
            by another.

    Returns:
        w', (out, in), zero outside the mask, and the number of steps taken.
    """
    diagonal = h.diagonal()
    damped = h.clone()
    damped.diagonal().mul_(1.0 + damping)
    scale = torch.where(diagonal > 0, 1.0 / damped.diagonal().clamp_min(1e-30), 0.0)
    support = mask.to(dense.dtype)
    tiny = torch.finfo(dense.dtype).tiny

    point = start * support
    residual = torch.mm(dense - point, damped)
    objective = ((dense - point) * residual).sum().item() if tolerance else 0.0
    residual.mul_(support)
    direction = residual * scale
    image, scratch = torch.empty_like(point), torch.empty_like(point)
    strength = torch.mul(residual, direction, out=scratch).sum(1, keepdim=True)
    taken = 0
    for taken in range(1, steps + 1):  # noqa: B007
        torch.mm(direction, damped, out=image).mul_(support)
        curvature = torch.mul(direction, image, out=scratch).sum(1, keepdim=True)
        length = strength / curvature.clamp_min_(tiny)
        point.addcmul_(length, direction)
        if tolerance:
            gain = (length * strength).sum().item()
            objective -= gain
            if gain <= tolerance * objective:
                break
        residual.addcmul_(length, image, value=-1)
        conditioned = torch.mul(residual, scale, out=image)
        following = torch.mul(residual, conditioned, out=scratch).sum(1, keepdim=True)
        direction.mul_(following / strength.clamp_min_(tiny)).add_(conditioned)
        strength = following
    return point, taken
