"""Depth-linear budget: one slope over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Loss, finite, logit
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.registry import allocator
from pruners.solvers.zeros import MaskPattern

SLOPES = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
"""Tried where a loss can judge, as shares of the steepest line that the budget allows."""


@allocator("depth-linear")
def depth_linear(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    depth: Mapping[str, float],
    slope: float | None = None,
    loss: Loss | None = None,
    slopes: Sequence[float] = SLOPES,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, int] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    r"""k_l = density + slope · (x̄ − x_l): with a positive slope, later layers keep less.

    Huang et al. 2025, "Determining Layer-wise Sparsity for Large Language Models Through a
    Theoretical Perspective" (arXiv 2502.14770, §3): the sparsities of the blocks are an arithmetic
    progression, and its one common difference is found by a few trials. x̄ is the size-weighted mean
    depth, so the line keeps the budget; where it would leave the bounds, all shares are shifted
    back onto the budget together.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        depth: tensor name → place in the forward pass, 0 to 1.
        slope: kept share of the first layer minus that of the last one; None tries `slopes`.
        loss: judges the slopes, by forward passes.
        slopes: to try, in units of the steepest line within 0 and 1.
        pattern, out_dims, lower, upper: see `MaskProblem`.

    Raises:
        ValueError: neither a slope nor a loss to find one.
    """
    if slope is not None:
        return line(weights, density, depth, slope, lower, upper)
    if loss is None:
        raise ValueError(
            'budget "depth-linear" needs calibration batches to find its slope, or the option '
            "slope (kept share of the first layer minus that of the last)"
        )
    steepest = 2 * min(density, 1 - density)
    problem = MaskProblem(weights, density, loss, pattern, out_dims, lower, upper)
    best: tuple[float, dict[str, float]] | None = None
    for share in slopes:
        shares = line(weights, density, depth, share * steepest, lower, upper)
        value = problem.loss(problem.realise(problem.start(shares)))
        finite(value, f"slope {share * steepest:.3g}")
        if best is None or value < best[0]:
            best = value, shares
    if best is None:
        raise ValueError('budget "depth-linear" needs at least one of `slopes` (got none)')
    return best[1]


def line(
    weights: Mapping[str, torch.Tensor],
    density: float,
    depth: Mapping[str, float],
    slope: float,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """The line of one slope, on the budget and inside the bounds."""
    size = torch.tensor([weight.numel() for weight in weights.values()], dtype=torch.float64)
    place = torch.tensor([depth[name] for name in weights], dtype=torch.float64)
    centre = (size * place).sum() / size.sum()
    share = density + slope * (centre - place)
    return on_budget(share, weights, density, lower, upper)


def on_budget(
    share: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    density: float,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """Shares (L,) as they are if they meet the budget inside their bounds, else projected."""
    sizes = [weight.numel() for weight in weights.values()]
    low, high = bounds(lower, weights, 0.0), bounds(upper, weights, 1.0)
    kept = (share * torch.tensor(sizes)).sum()
    met = abs(kept - density * sum(sizes)) <= 1e-9 * sum(sizes)
    if not (met and (share >= low).all() and (share <= high).all()):
        share = project(logit(share, low, high), sizes, density, low, high)
    return dict(zip(weights, share.tolist(), strict=True))
