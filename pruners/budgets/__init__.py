"""Budgets: how the kept weights are divided among tensors, always met exactly."""

from pruners.budgets import (  # noqa: F401 (registered)
    bernoulli,
    depth_linear,
    distortion,
    erk,
    flap,
    global_magnitude,
    lamp,
    manual,
    owl,
    price,
    search,
    uniform,
)
from pruners.budgets.budget import Budget, allocate_composite
from pruners.budgets.channels import (
    CHANNEL_ALLOCATORS,
    allocate_channels,
    channel_allocator,
)
from pruners.budgets.composite import CompositeProblem
from pruners.budgets.distortion import measure_curves
from pruners.budgets.evidence import measured, needs, solving
from pruners.budgets.masks import MaskProblem
from pruners.budgets.price import equalise
from pruners.budgets.problem import Choice, Loss, Problem
from pruners.budgets.projection import bounds, counts, grouped, project
from pruners.budgets.rank_rules import (
    RANK_ALLOCATORS,
    allocate_ranks,
    rank_allocator,
    rank_limits,
)
from pruners.budgets.ranks import RankProblem
from pruners.budgets.registry import (
    ALLOCATORS,
    allocate,
    allocator,
    corrected_shares,
    named,
    prunable_weights,
)
from pruners.budgets.search import best_choice
from pruners.budgets.widths import WidthProblem

__all__ = [
    "ALLOCATORS",
    "CHANNEL_ALLOCATORS",
    "RANK_ALLOCATORS",
    "Budget",
    "Choice",
    "CompositeProblem",
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
    "best_choice",
    "bounds",
    "channel_allocator",
    "corrected_shares",
    "counts",
    "equalise",
    "grouped",
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
