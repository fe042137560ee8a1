"""Solvers: from a weight, what is known of its inputs, and a budget, to a pruned weight.

Each file in `algorithms` is one solver, registered under its name with what it gives and needs. The
modules of this room are what they share: the matrix view of a weight, the patterns of masks, exact
selection, damping and repair, and the doors `solve` and `solve_many`.
"""

from pruners.solvers.algorithms.admm import ADMM
from pruners.solvers.algorithms.gradient_aware import GradientAware
from pruners.solvers.algorithms.least_squares import LeastSquares
from pruners.solvers.algorithms.low_rank import LowRank
from pruners.solvers.algorithms.magnitude import Magnitude
from pruners.solvers.algorithms.sparse_low_rank import SparseLowRank
from pruners.solvers.algorithms.sparsegpt import SparseGPT
from pruners.solvers.algorithms.wanda import Wanda
from pruners.solvers.base import (
    DEFAULT,
    SOLVERS,
    WITHOUT_CALIBRATION,
    Factors,
    Solution,
    Solver,
    build,
    solver,
    solvers_for,
)
from pruners.solvers.matrix import as_matrix, from_matrix, matrix_shape, out_dims, relative_error
from pruners.solvers.repair import repair
from pruners.solvers.selection import top_k
from pruners.solvers.solve import solve, solve_many
from pruners.solvers.zeros import MaskPattern

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
    "matrix_shape",
    "out_dims",
    "relative_error",
    "repair",
    "solve",
    "solve_many",
    "solver",
    "solvers_for",
    "top_k",
]
