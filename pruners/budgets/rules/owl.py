"""OWL budget: blocks with more outliers keep more."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.registry import rule
from pruners.budgets.rules.depth_linear import on_budget
from pruners.solvers.matrix import Rows, as_matrix
from pruners.solvers.zeros import MaskPattern

OUTLIER = 5.0
WINDOW = 0.08
OUTLIER_GROUPS = 6.0
WINDOW_GROUPS = 2.0


@rule("owl", divides="masks")
def owl(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    norms: Mapping[str, torch.Tensor],
    blocks: Mapping[str, str],
    out_dims: Mapping[str, Rows],
    outlier: float | None = None,
    window: float | None = None,
    pattern: str | MaskPattern = "unstructured",
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    r"""Kept shares in a window of width 2Λ, linear in the share of outliers of each block.

        A_ij = |W_ij| ‖X_j‖,   D_b = #{A > M · mean(A)} / #A over all weights of block b,
        k_b = 2Λ (D_b − min D) / (max D − min D),   share_b = density + k_b − k̄

    Yin et al. 2024, "Outlier Weighed Layerwise Sparsity (OWL)", §3. All weights of a block share
    one number. k̄ is weighted by size here (the original's plain mean keeps the budget only where
    blocks are of one size), so the sum is exact. Where a share would leave its bounds, all are
    shifted back onto the budget together.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        norms: tensor name → norms of the inputs over the columns of `as_matrix`, (columns,);
            a weight that is missing (its inputs were not seen) counts with norms of 1.
        blocks: tensor name → its block.
        out_dims: tensor name → output dimension.
        outlier: M; default 5, for N:M patterns 6.
        window: Λ; default 0.08, for N:M patterns 2 / M of the pattern, that is ± 2 positions.
        pattern: see `allocate`.
        lower, upper: bounds of shares.

    Raises:
        ValueError: norms of a wrong shape, or an M or Λ that is not positive.
    """
    m = MaskPattern.parse(pattern).m
    limit = outlier if outlier is not None else OUTLIER_GROUPS if m else OUTLIER
    half = window if window is not None else WINDOW_GROUPS / m if m else WINDOW
    if limit <= 0 or half < 0:
        raise ValueError(f"owl needs outlier > 0 and window >= 0 (got {limit} and {half})")
    members: dict[str, list[torch.Tensor]] = {}
    for name, weight in weights.items():
        matrix = as_matrix(weight.detach(), out_dims[name]).abs().float()
        if name in norms:
            if norms[name].shape != matrix.shape[1:]:
                raise ValueError(
                    f'norms of "{name}": expected shape ({matrix.shape[1]},) (got '
                    f"{tuple(norms[name].shape)})"
                )
            matrix = matrix * norms[name].to(matrix)
        members.setdefault(blocks[name], []).append(matrix.flatten())
    outliers = {block: outlier_share(torch.cat(found), limit) for block, found in members.items()}
    low, high = min(outliers.values()), max(outliers.values())
    spread = (high - low) or 1.0
    rise = torch.tensor(
        [2 * half * (outliers[blocks[name]] - low) / spread for name in weights],
        dtype=torch.float64,
    )
    size = torch.tensor([weight.numel() for weight in weights.values()], dtype=torch.float64)
    share = density + rise - (rise * size).sum() / size.sum()
    return on_budget(share, weights, density, lower, upper)


def outlier_share(scores: torch.Tensor, limit: float) -> float:
    """Share of the scores above `limit` times their mean."""
    return (scores > limit * scores.mean()).double().mean().item()
