"""Budgets: how the kept weights are divided among tensors, always met exactly."""

from pruners.budgets import erk, global_magnitude, lamp, price, uniform  # noqa: F401 (registered)
from pruners.budgets.projection import counts, project
from pruners.budgets.registry import (
    ALLOCATORS,
    allocate,
    allocator,
    corrected_shares,
    prunable_weights,
)

__all__ = [
    "ALLOCATORS",
    "allocate",
    "allocator",
    "corrected_shares",
    "counts",
    "project",
    "prunable_weights",
]
