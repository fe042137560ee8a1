"""Pruners: statistics, scores, budgets, solvers, masks and plans."""

from pruners import budgets, solvers, statistics, structured
from pruners.plan import Kept, Plan, PlanError, fingerprint
from pruners.targets import Target, UnreachableTargetError, measure

__all__ = [
    "Kept",
    "Plan",
    "PlanError",
    "Target",
    "UnreachableTargetError",
    "budgets",
    "fingerprint",
    "measure",
    "solvers",
    "statistics",
    "structured",
]
