"""Global magnitude budget: one threshold over the weights of all tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.levels import allowance
from pruners.budgets.registry import allocator


@allocator("global")
def global_magnitude(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Keep the ⌊density · N⌋ largest |w| of all N weights (Han et al. 2015, over the net)."""
    return shares_of_top({name: w.detach().abs().flatten() for name, w in weights.items()}, density)


def shares_of_top(scores: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Share of each tensor among the overall top scores; the kept number is exact.

    Args:
        scores: tensor name → score of every weight, 1-D, finite.
        density: share of all weights that stays; the number is rounded down to a whole weight.

    Returns:
        Tensor name → kept share (a multiple of 1 / its size). Scores equal to the threshold are
        kept in the order of the tensors.

    Raises:
        ValueError: scores that are not numbers.
    """
    together = torch.cat([score.float().cpu() for score in scores.values()])
    if together.isnan().any():
        broken = next(name for name, score in scores.items() if score.isnan().any())
        raise ValueError(f'weights of "{broken}" are not numbers (got NaN)')
    kept = allowance(density, together.numel())
    if kept == 0:
        return dict.fromkeys(scores, 0.0)
    threshold = together.kthvalue(together.numel() - kept + 1).values
    sizes = [score.numel() for score in scores.values()]
    parts = together.split(sizes)
    above = [int((part > threshold).sum()) for part in parts]
    tied = kept - sum(above)
    shares = {}
    for name, part, count in zip(scores, parts, above, strict=True):
        extra = min(tied, int((part == threshold).sum()))
        tied -= extra
        shares[name] = (count + extra) / part.numel()
    return shares
