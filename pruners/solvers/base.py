"""Solvers: from a weight, what is known about its inputs, and a budget, to a pruned weight.

A solver first prepares what does not depend on the budget, then solves for as many budgets and
patterns as asked:

    state = solver.prepare(matrix, statistics)
    solution = solver.solve(state, density, pattern)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from graphs.tools.registry import Registry
from pruners.solvers.zeros import MaskPattern


@dataclass(frozen=True)
class Factors:
    """A low-rank part in matrix view.

    Args:
        left: (out, rank).
        right: (rank, in).
    """

    left: torch.Tensor
    right: torch.Tensor

    @property
    def rank(self) -> int:
        """Inner size."""
        return self.left.shape[1]

    def product(self) -> torch.Tensor:
        """Left · right, (out, in)."""
        return self.left @ self.right


@dataclass(frozen=True)
class Solution:
    """A pruned weight and how it came about.

    Args:
        weight: the effective dense weight in the dtype of the original, which alone reproduces the
            layer: zero where the mask is false, plus the product of the factors where there are
            any.
        mask: bool, the same shape; true where the sparse part has a weight.
        status: a sentence for a person.
        statistics: numbers about the solution: `kept` (weights) and whatever the solver measures.
        factors: the low-rank part over the matrix view of the weight
            (`pruners.solvers.as_matrix`); None for a mask alone. The sparse part is
            `as_matrix(weight) − factors.product()` on the mask; an empty mask is low-rank alone.
    """

    weight: torch.Tensor
    mask: torch.Tensor
    status: str
    statistics: Mapping[str, float] = field(default_factory=dict)
    factors: Factors | None = None


class Solver(Protocol):
    """One algorithm: `prepare`, then `solve`.

    The law: the mask of a solution fits the pattern and keeps exactly the asked number of weights,
    the weight is zero outside the mask (unless there are factors), and its dtype is that of the
    matrix that was prepared.
    """

    masked: bool
    """Whether its solutions have masks; taken for true where a class does not say."""

    factored: bool
    """Whether its solutions have factors; taken for false where a class does not say."""

    @property
    def needs(self) -> frozenset[str]:
        """Names of the statistics that `prepare` reads, for the calibration to collect.

        `pruners.statistics.inputs.collect` lists them: "norms", "hessian", "gradients", ... over
        the columns of the matrix; none where the weights alone are enough.
        """

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> Any:
        """What does not depend on the budget; `matrix` has shape (out, in)."""

    def solve(self, state: Any, density: float | None, pattern: MaskPattern) -> Solution:
        """The pruned matrix for one budget and pattern."""


SOLVERS: Registry[Callable[..., Solver]] = Registry("solver")
"""Name → what makes the solver from its options: its class."""

solver = SOLVERS.register

DEFAULT, WITHOUT_CALIBRATION = "admm", "magnitude"
"""The solvers of masks with the smallest error on fresh inputs (docs/solvers.md), with calibration
batches and without; `repair` follows where there is a Hessian."""


def build(name: str, **options: Any) -> Solver:
    """The solver registered under a name.

    Raises:
        ValueError: unknown name.
    """
    return SOLVERS.find(name)(**options)


def solvers_for(masks: bool, factors: bool) -> list[str]:
    """Names of the solvers that give masks, or factors, or both together."""
    wanted = masks, factors
    return [
        name
        for name, make in SOLVERS.items()
        if (getattr(make, "masked", True), getattr(make, "factored", False)) == wanted
    ]
