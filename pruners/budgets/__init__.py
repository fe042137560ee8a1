"""Budgets: how a target is divided among tensors and axes, always met in whole units.

Each file in `rules` is one rule and what it can divide: masks, widths, ranks. `problems` says what
a budget is (its units, its exact projection, what a choice costs), and `searching` looks for the
best choice of one. The modules of this room are the fronts: an `allocate_...` for each thing that
is divided, the registry of rules, and the evidence that they read.
"""

from pruners.budgets import rules as _rules  # noqa: F401 (registered)
from pruners.budgets.budget import Budget
from pruners.budgets.composite import JOINT, allocate_beside, allocate_composite, rules_beside
from pruners.budgets.evidence import MEASURED, solving
from pruners.budgets.masks import allocate_masks, corrected_shares
from pruners.budgets.names import named
from pruners.budgets.problems.composite import CompositeProblem
from pruners.budgets.problems.equalise import equalise
from pruners.budgets.problems.levels import Levels, allowance
from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Choice, Loss, Problem
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Request
from pruners.budgets.problems.widths import WidthProblem
from pruners.budgets.ranks import allocate_ranks, rank_limits
from pruners.budgets.registry import RULES, Rule, measured, needs, rule, rules_for
from pruners.budgets.rules.distortion import measure_curves
from pruners.budgets.searching.best import best_choice
from pruners.budgets.weights import maskable, prunable_weights
from pruners.budgets.widths import allocate_widths

__all__ = [
    "JOINT",
    "MEASURED",
    "RULES",
    "Budget",
    "Choice",
    "CompositeProblem",
    "Levels",
    "Loss",
    "MaskProblem",
    "Problem",
    "RankProblem",
    "Request",
    "Rule",
    "WidthProblem",
    "allocate_beside",
    "allocate_composite",
    "allocate_masks",
    "allocate_ranks",
    "allocate_widths",
    "allowance",
    "best_choice",
    "bounds",
    "corrected_shares",
    "equalise",
    "maskable",
    "measure_curves",
    "measured",
    "named",
    "needs",
    "project",
    "prunable_weights",
    "rank_limits",
    "rule",
    "rules_beside",
    "rules_for",
    "solving",
]
