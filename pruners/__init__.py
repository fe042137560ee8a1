"""Pruners: statistics, scores, budgets, solvers, masks and plans."""

from pruners import budgets, solvers, statistics
from pruners.fingerprint import fingerprint
from pruners.plan import Kept, Plan, PlanError
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
