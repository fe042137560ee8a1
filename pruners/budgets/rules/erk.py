"""Erdős–Rényi-Kernel budget: tensors with few connections a unit keep more."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.registry import rule


@rule("erk", divides="masks")
def erk(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    r"""k_l = min(1, ε · Σ shape_l / Π shape_l), ε set so that the budget is exact.

    Evci et al. 2020, "Rigging the Lottery", §3 (ERK): a kernel (out, in, h, w) is weighted by
    (out + in + h + w) / (out · in · h · w).
    """
    size = torch.tensor([weight.numel() for weight in weights.values()], dtype=torch.float64)
    perimeter = torch.tensor([sum(w.shape) for w in weights.values()], dtype=torch.float64)
    kept = fill(perimeter, size, density * size.sum().item())
    return dict(zip(weights, (kept / size).tolist(), strict=True))


def fill(raw: torch.Tensor, capacity: torch.Tensor, total: float) -> torch.Tensor:
    """min(capacity, ε·raw) with sum `total`; the entries that are full come first in raw/capacity.

    Args:
        raw: positive weights, shape (L,).
        capacity: positive capacities, shape (L,).
        total: at most the sum of the capacities.

    Returns:
        Shape (L,), float64.
    """
    order = (raw / capacity).argsort(descending=True, stable=True)
    raw_sorted, capacity_sorted = raw[order], capacity[order]
    full_before = capacity_sorted.cumsum(0) - capacity_sorted
    raw_left = raw_sorted.flip(0).cumsum(0).flip(0)
    # With the first i entries full, the rest share what is left in proportion to raw.
    scale = (total - full_before) / raw_left
    fits = scale * raw_sorted <= capacity_sorted
    if not fits.any():
        return capacity.clone()
    first = int(fits.nonzero()[0])
    return torch.minimum(capacity, scale[first] * raw)
