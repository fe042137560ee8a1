"""Pruners: what is known of units and weights, what a target leaves of each, and what stays.

`statistics` collects what calibration batches say, `transformations` make a network easier to
prune, `units` scores and selects the units of axes, `budgets` divides a target, `solvers` find
masks and factors, and `recovery` makes up for what went. The modules of this room are the values
that they share: targets, plans and their moves, factors of layers, and the ways between positions,
units and matrices.
"""

from pruners import budgets, recovery, solvers, statistics, units
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
    "recovery",
    "solvers",
    "statistics",
    "units",
]
