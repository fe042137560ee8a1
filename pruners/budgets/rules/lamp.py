"""LAMP budget: layer-adaptive magnitude, comparable across tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.registry import rule
from pruners.budgets.rules.global_threshold import shares_of_top


@rule("lamp", divides="masks")
def lamp(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Keep the overall top LAMP scores (Lee et al. 2021, "Layer-adaptive sparsity", eq. 1)."""
    return shares_of_top({name: lamp_scores(w) for name, w in weights.items()}, density)


def lamp_scores(weight: torch.Tensor) -> torch.Tensor:
    r"""w_u² / Σ_{v: w_v² ≥ w_u²} w_v², in ascending order of |w|.

    The largest weight of a tensor scores 1, so no tensor empties before all others do. Among
    equal weights the sum runs from each to the end of the ascending order, as in the paper.

    Args:
        weight: any shape.

    Returns:
        Shape (numel,), float64, ascending; 0 for zero weights.
    """
    squares = weight.detach().double().flatten().square().sort().values
    remaining = squares.flip(0).cumsum(0).flip(0)
    return squares / remaining.clamp_min(torch.finfo(torch.float64).tiny)
