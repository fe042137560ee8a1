"""Uniform budget: the same share of every tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.registry import allocator


@allocator("uniform")
def uniform(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """k_l = density."""
    return dict.fromkeys(weights, float(density))
