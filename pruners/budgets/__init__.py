"""Budgets: how the kept weights are divided among tensors, always met exactly."""

from pruners.budgets.erk import erk
from pruners.budgets.global_magnitude import global_magnitude
from pruners.budgets.lamp import lamp
from pruners.budgets.projection import counts, project
from pruners.budgets.registry import (
    ALLOCATORS,
    allocate,
    allocator,
    corrected_shares,
    prunable_weights,
)
from pruners.budgets.uniform import uniform

__all__ = [
    "ALLOCATORS",
    "allocate",
    "allocator",
    "corrected_shares",
    "counts",
    "erk",
    "global_magnitude",
    "lamp",
    "project",
    "prunable_weights",
    "uniform",
]
