"""Solvers: one algorithm a file, behind one registry."""

from pruners.solvers.base import SOLVERS, Solution, Solver, build, solver
from pruners.solvers.magnitude import Magnitude
from pruners.solvers.matrix import as_matrix, from_matrix, relative_error
from pruners.solvers.patterns import Pattern, top_k
from pruners.solvers.repair import repair
from pruners.solvers.solve import solve
from pruners.solvers.sparsegpt import SparseGPT
from pruners.solvers.wanda import Wanda

__all__ = [
    "SOLVERS",
    "Magnitude",
    "Pattern",
    "Solution",
    "Solver",
    "SparseGPT",
    "Wanda",
    "as_matrix",
    "build",
    "from_matrix",
    "relative_error",
    "repair",
    "solve",
    "solver",
    "top_k",
]
