"""The door to the solvers: a weight of any shape in, a solution of that shape out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pruners.solvers.base import Solution, build
from pruners.solvers.damping import shrinkage
from pruners.solvers.matrix import as_matrix, from_matrix
from pruners.solvers.patterns import Pattern
from pruners.solvers.repair import STEPS, repair


def solve(
    name: str,
    weight: torch.Tensor,
    density: float | None,
    pattern: str | Pattern = "unstructured",
    *,
    statistics: Mapping[str, torch.Tensor] | None = None,
    out_dim: int = 0,
    repair_steps: int = STEPS,
    **options: Any,
) -> Solution:
    """Prune one weight of any shape: matrix view, prepare, solve, repair, back to its shape.

    Args:
        name: a registered solver.
        weight: (out, in, taps...), or with its output dimension at `out_dim`.
        density: kept share, 0 to 1; None for N:M.
        pattern: as `Pattern` reads it; groups of N:M run along the input channels.
        statistics: what is known of the inputs, over the columns of `as_matrix(weight)`: what the
            solver needs, `hessian` for the repair, and `samples`, from how many it was estimated.
        out_dim: the weight's output dimension.
        repair_steps: conjugate-gradient steps on the kept weights where a Hessian is given; 0 for
            the solver's own weights.
        options: arguments of the solver's constructor.

    Raises:
        ValueError: unknown solver or pattern, statistics that are missing or of a wrong shape, a
            density out of range, or a weight that is not a finite floating-point matrix.
    """
    if weight.ndim < 2 or not weight.is_floating_point():
        raise ValueError(
            "solvers prune floating-point weights with an output and an input dimension (got "
            f"shape {tuple(weight.shape)}, {weight.dtype})"
        )
    if not _finite(weight):
        raise ValueError("the weight is not finite (got inf or NaN); repair the checkpoint first")
    algorithm = build(name, **options)
    matrix = as_matrix(weight.detach(), out_dim)
    given = dict(statistics or {})
    _check(name, algorithm.needs, given, matrix.shape)

    state = algorithm.prepare(matrix, given)
    found = algorithm.solve(state, density, Pattern.parse(pattern))
    if "hessian" in given and repair_steps > 0 and found.factors is None:
        share = found.statistics.get("damping")
        if share is None:
            wide = torch.promote_types(matrix.dtype, torch.float32)
            share = shrinkage(given["hessian"].to(wide), given.get("samples"))
        found = repair(matrix, found, given["hessian"], repair_steps, share)
    return replace(
        found,
        weight=from_matrix(found.weight, weight.shape, out_dim),
        mask=from_matrix(found.mask, weight.shape, out_dim),
    )


def _check(
    name: str, needs: frozenset[str], given: Mapping[str, torch.Tensor], shape: torch.Size
) -> None:
    missing = sorted(needs - set(given))
    if missing:
        raise ValueError(
            f'solver "{name}" needs the statistics {", ".join(missing)} of the inputs; collect '
            "them with pruners.statistics.input_statistics"
        )
    rows, columns = shape
    sizes = {"norms": (columns,), "hessian": (columns, columns), "gradients": (rows, columns)}
    for key, size in sizes.items():
        value = given.get(key)
        if value is not None and tuple(value.shape) != size:
            raise ValueError(
                f'statistics "{key}": expected shape {size} for {columns} input columns (got '
                f"{tuple(value.shape)})"
            )
        if value is not None and not _finite(value):
            raise ValueError(f'statistics "{key}" are not finite (got inf or NaN)')


def _finite(value: torch.Tensor) -> bool:
    """Whether every entry is a number, in one pass and without a temporary of its size."""
    low, high = value.aminmax() if value.numel() else (value.sum(), value.sum())
    return bool(low.isfinite() & high.isfinite())
