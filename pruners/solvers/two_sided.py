r"""Two-sided errors: what a change of a weight costs where some outputs matter more than others.

    ½ tr(G ΔW H ΔWᵀ),    H = E[x xᵀ] of the inputs,    G of the gradients at the outputs

(`pruners.statistics.curvature`). With G = I it is the error of the layer's own outputs. A diagonal
G weighs rows when a mask is chosen over several of them, and changes no refit on a given mask.
"""

from __future__ import annotations

import torch

DAMPING = 0.05
"""Share of its diagonal that is added to G: gradients of fresh data agree less than those of the
calibration data. It is no share of the identity, so that scaling a unit where it is made, and back
where it is read, changes nothing."""

UNHEARD = 1e-6
"""Curvature of an output without gradients, as a share of the mean: its weights go first."""


def regular(curvature: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """G with a mean diagonal of 1, less correlated: the scale of G changes no solution.

    Args:
        curvature: G, (out, out), symmetric; or its diagonal, (out,).
        damping: see `DAMPING`.

    Returns:
        (out, out), positive definite; I where G is 0.
    """
    full = curvature.diag() if curvature.ndim == 1 else curvature
    mean = full.diagonal().mean()
    if not mean > 0:
        return torch.eye(len(full), dtype=full.dtype, device=full.device)
    found = full / mean / (1 + damping)
    strength = full.diagonal() / mean
    found.diagonal().copy_(torch.where(strength > 0, strength, UNHEARD))
    return found


def is_diagonal(curvature: torch.Tensor) -> bool:
    """Whether no output shares curvature with another one."""
    return curvature.ndim == 1 or not bool(
        (curvature - curvature.diagonal().diag()).count_nonzero()
    )


def two_sided_error(
    change: torch.Tensor, hessian: torch.Tensor, curvature: torch.Tensor | None = None
) -> torch.Tensor:
    """½ tr(G ΔW H ΔWᵀ), a scalar.

    Args:
        change: ΔW, (out, in).
        hessian: H, (in, in).
        curvature: G, (out, out), or its diagonal (out,); None for I.
    """
    mapped = change @ hessian
    if curvature is None:
        return (mapped * change).sum() / 2
    if curvature.ndim == 1:
        return ((mapped * change).sum(1) * curvature).sum() / 2
    return (mapped * (curvature @ change)).sum() / 2


def fit_on_support_two_sided(
    dense: torch.Tensor,
    start: torch.Tensor,
    mask: torch.Tensor,
    hessian: torch.Tensor,
    curvature: torch.Tensor,
    steps: int,
    tolerance: float = 0.0,
) -> tuple[torch.Tensor, int]:
    r"""Argmin over W' on the mask of tr(G (W − W') H (W − W')ᵀ), by conjugate gradients.

    G ties the rows together: they share one step length. The preconditioner is the diagonal,
    1 / (G_ii H_jj).

    Args:
        dense: W, (out, in), float32 or float64.
        start: starting point, (out, in); entries outside the mask are ignored.
        mask: bool, (out, in).
        hessian, curvature: H and G, positive definite but for dead inputs.
        steps: number of steps, at most.
        tolerance: share of the remaining error that a step must gain to be followed by another.

    Returns:
        W', (out, in), zero outside the mask, and the number of steps taken.
    """
    support = mask.to(dense.dtype)
    inputs = hessian.diagonal()
    scale = torch.where(inputs > 0, 1.0 / inputs.clamp_min(torch.finfo(dense.dtype).tiny), 0.0)
    scale = scale / curvature.diagonal()[:, None]
    tiny = torch.finfo(dense.dtype).tiny

    point = start * support
    residual = curvature @ (dense - point) @ hessian
    objective = ((dense - point) * residual).sum()
    residual.mul_(support)
    direction = residual * scale
    strength = (residual * direction).sum()
    taken = 0
    while taken < steps:
        taken += 1
        image = (curvature @ direction @ hessian).mul_(support)
        length = strength / (direction * image).sum().clamp_min(tiny)
        point.add_(direction * length)
        residual.sub_(image * length)
        gain = length * strength
        objective = objective - gain
        if not gain > tolerance * objective:
            break
        conditioned = residual * scale
        following = (residual * conditioned).sum()
        direction = conditioned.add_(direction * (following / strength.clamp_min(tiny)))
        strength = following
    return point, taken
