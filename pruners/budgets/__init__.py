"""Budgets: how the kept weights are divided among tensors, always met exactly."""

from pruners.budgets import rules as _rules  # noqa: F401 (registered)
from pruners.budgets.budget import Budget, allocate_composite
from pruners.budgets.channels import (
    CHANNEL_ALLOCATORS,
    allocate_channels,
    channel_allocator,
)
from pruners.budgets.evidence import measured, needs, solving
from pruners.budgets.problems.composite import CompositeProblem
from pruners.budgets.problems.levels import Levels, allowance
from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Choice, Loss, Problem
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.widths import WidthProblem
from pruners.budgets.registry import (
    ALLOCATORS,
    allocate,
    allocator,
    corrected_shares,
    named,
    prunable_weights,
)
from pruners.budgets.rules.distortion import measure_curves
from pruners.budgets.rules.price import equalise
from pruners.budgets.rules.ranks import (
    RANK_ALLOCATORS,
    allocate_ranks,
    rank_allocator,
    rank_limits,
)
from pruners.budgets.rules.search import best_choice

__all__ = [
    "ALLOCATORS",
    "CHANNEL_ALLOCATORS",
    "RANK_ALLOCATORS",
    "Budget",
    "Choice",
    "CompositeProblem",
    "Levels",
    "Loss",
    "MaskProblem",
    "Problem",
    "RankProblem",
    "WidthProblem",
    "allocate",
    "allocate_channels",
    "allocate_composite",
    "allocate_ranks",
    "allocator",
    "allowance",
    "best_choice",
    "bounds",
    "channel_allocator",
    "corrected_shares",
    "equalise",
    "measure_curves",
    "measured",
    "named",
    "needs",
    "project",
    "prunable_weights",
    "rank_allocator",
    "rank_limits",
    "solving",
]
