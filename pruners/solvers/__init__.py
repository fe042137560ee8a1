"""Solvers: one algorithm a file, behind one registry."""

from pruners.solvers.algorithms.admm import ADMM
from pruners.solvers.algorithms.gradient_aware import GradientAware
from pruners.solvers.algorithms.least_squares import LeastSquares
from pruners.solvers.algorithms.low_rank import LowRank
from pruners.solvers.algorithms.magnitude import Magnitude
from pruners.solvers.algorithms.sparse_low_rank import SparseLowRank
from pruners.solvers.algorithms.sparsegpt import SparseGPT
from pruners.solvers.algorithms.wanda import Wanda
from pruners.solvers.base import SOLVERS, Factors, Solution, Solver, build, solver
from pruners.solvers.matrix import as_matrix, from_matrix, relative_error
from pruners.solvers.repair import repair
from pruners.solvers.selection import top_k
from pruners.solvers.solve import solve, solve_many
from pruners.solvers.zeros import MaskPattern

# By the error on fresh inputs (docs/solvers.md); `repair` follows where there is a Hessian.
DEFAULT = "admm"
WITHOUT_CALIBRATION = "magnitude"

__all__ = [
    "ADMM",
    "DEFAULT",
    "SOLVERS",
    "WITHOUT_CALIBRATION",
    "Factors",
    "GradientAware",
    "LeastSquares",
    "LowRank",
    "Magnitude",
    "MaskPattern",
    "Solution",
    "Solver",
    "SparseGPT",
    "SparseLowRank",
    "Wanda",
    "as_matrix",
    "build",
    "from_matrix",
    "relative_error",
    "repair",
    "solve",
    "solve_many",
    "solver",
    "top_k",
]
