"""Solvers: from a weight, what is known about its inputs, and a budget, to a pruned weight.

A solver first prepares what does not depend on the budget, then solves for as many budgets and
patterns as asked:

    state = solver.prepare(matrix, statistics)
    solution = solver.solve(state, density, pattern)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch

from pruners.solvers.patterns import Pattern


@dataclass(frozen=True)
class Solution:
    """A pruned weight and how it came about.

    Args:
        weight: pruned weight in the dtype of the original, zero where the mask is false.
        mask: bool, the same shape; true where a weight stays.
        status: a sentence for a person.
        statistics: numbers about the solution: `kept` (weights) and whatever the solver measures.
    """

    weight: torch.Tensor
    mask: torch.Tensor
    status: str
    statistics: Mapping[str, float] = field(default_factory=dict)


class Solver(Protocol):
    """One algorithm: `prepare`, then `solve`.

    The law: the mask of a solution fits the pattern and keeps exactly the asked number of weights,
    the weight is zero outside the mask, and its dtype is that of the matrix that was prepared.
    """

    needs: frozenset[str]
    """Names of the statistics that `prepare` reads, for the calibration to collect."""

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> Any:
        """What does not depend on the budget; `matrix` has shape (out, in)."""

    def solve(self, state: Any, density: float | None, pattern: Pattern) -> Solution:
        """The pruned matrix for one budget and pattern."""


AnySolver = TypeVar("AnySolver", bound=Callable[..., Any])

SOLVERS: dict[str, Callable[..., Any]] = {}


def solver(name: str) -> Callable[[AnySolver], AnySolver]:
    """Register a solver class under a name."""

    def register(make: AnySolver) -> AnySolver:
        if name in SOLVERS:
            raise ValueError(f'a solver "{name}" is already registered')
        SOLVERS[name] = make
        return make

    return register


def build(name: str, **options: Any) -> Solver:
    """The solver registered under a name.

    Raises:
        ValueError: unknown name.
    """
    if name not in SOLVERS:
        raise ValueError(f'unknown solver "{name}": expected one of {", ".join(SOLVERS)}')
    return SOLVERS[name](**options)


def solve(
    name: str,
    weight: torch.Tensor,
    density: float | None,
    pattern: str | Pattern = "unstructured",
    *,
    statistics: Mapping[str, torch.Tensor] | None = None,
    out_dim: int = 0,
    **options: Any,
) -> Solution:
    """Prune one weight of any shape: matrix view, prepare, solve, back to the weight's shape.

    Args:
        name: a registered solver.
        weight: (out, in, taps...), or with its output dimension at `out_dim`.
        density: kept share, 0 to 1; None for N:M.
        pattern: "unstructured", "row" or "N:M"; groups of N:M run along the input channels.
        statistics: what the solver needs, over the columns of `as_matrix(weight)`.
        out_dim: the weight's output dimension.
        options: arguments of the solver's constructor.

    Raises:
        ValueError: unknown solver or pattern, statistics that are missing, a density out of range,
            or a weight that is not a finite floating-point matrix.
    """
    if weight.ndim < 2 or not weight.is_floating_point():
        raise ValueError(
            "solvers prune floating-point weights with an output and an input dimension (got "
            f"shape {tuple(weight.shape)}, {weight.dtype})"
        )
    if not torch.isfinite(weight).all():
        raise ValueError("the weight is not finite (got inf or NaN); repair the checkpoint first")
    algorithm = build(name, **options)
    given = statistics or {}
    missing = sorted(algorithm.needs - set(given))
    if missing:
        raise ValueError(f'solver "{name}" needs the statistics {", ".join(missing)} (got none)')
    state = algorithm.prepare(as_matrix(weight.detach(), out_dim), given)
    found = algorithm.solve(state, density, Pattern.parse(pattern))
    return replace(
        found,
        weight=from_matrix(found.weight, weight.shape, out_dim),
        mask=from_matrix(found.mask, weight.shape, out_dim),
    )


def as_matrix(weight: torch.Tensor, out_dim: int = 0) -> torch.Tensor:
    """(out, in, taps...) → (out, taps·in): the input channel varies fastest, as N:M kernels want.

    Args:
        weight: two dimensions or more.
        out_dim: the output dimension; the first of the others is the input dimension.
    """
    rows = weight.movedim(out_dim, 0)
    return rows if rows.ndim == 2 else rows.flatten(2).transpose(1, 2).flatten(1)


def from_matrix(matrix: torch.Tensor, shape: torch.Size, out_dim: int = 0) -> torch.Tensor:
    """Inverse of `as_matrix` for a weight of the given shape; contiguous."""
    if len(shape) > 2:
        rest = [size for i, size in enumerate(shape) if i != out_dim % len(shape)]
        taps = matrix.reshape(matrix.shape[0], -1, rest[0]).transpose(1, 2)
        matrix = taps.reshape(matrix.shape[0], *rest)
    return matrix.movedim(0, out_dim).contiguous()
