"""Solvers: one algorithm a file, behind one registry."""

from pruners.solvers.base import (
    SOLVERS,
    Solution,
    Solver,
    as_matrix,
    build,
    from_matrix,
    solve,
    solver,
)
from pruners.solvers.magnitude import Magnitude
from pruners.solvers.patterns import Pattern, top_k

__all__ = [
    "SOLVERS",
    "Magnitude",
    "Pattern",
    "Solution",
    "Solver",
    "as_matrix",
    "build",
    "from_matrix",
    "solve",
    "solver",
    "top_k",
]
