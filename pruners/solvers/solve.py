"""The doors to the solvers: weights of any shape in, solutions of that shape out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch

from pruners.solvers.base import Factors, Solution, build
from pruners.solvers.damping import shrinkage
from pruners.solvers.matrix import Rows, as_matrix, from_matrix, narrowed
from pruners.solvers.repair import STEPS, repair, repair_many
from pruners.solvers.two_sided import is_diagonal
from pruners.solvers.zeros import MaskPattern

# Entries of a matrix up to which several are repaired as one batch, and of all of a batch. Larger
# ones, and the iterations of the solvers themselves, are no faster together (docs/solvers.md).
SMALL, BATCH = 1 << 14, 1 << 17
# Rows that share curvature share the length of a step, so that they need more of them.
TWO_SIDED = 2
# Sums of squares between these bounds are computed in float32, others in float64.
RANGE = 1e-24, 1e32


def solve(
    name: str,
    weight: torch.Tensor,
    density: float | None,
    pattern: str | MaskPattern = "unstructured",
    *,
    statistics: Mapping[str, torch.Tensor] | None = None,
    out_dim: Rows = 0,
    repair_steps: int = STEPS,
    **options: Any,
) -> Solution:
    """Prune one weight of any shape: matrix view, prepare, solve, repair, back to its shape.

    Args:
        name: a registered solver.
        weight: (out, in, taps...), or with its output dimension at `out_dim`.
        density: kept share, 0 to 1; None for N:M.
        pattern: as `MaskPattern` reads it; groups of N:M run along the input channels.
        statistics: what is known of the inputs, over the columns of `as_matrix(weight)`: what the
            solver needs, `hessian` for the repair, `samples`, from how many it was estimated, and
            `curvature` of the outputs, which makes both sides of the error count
            (`pruners.solvers.two_sided`).
        out_dim: the weight's output dimension.
        repair_steps: conjugate-gradient steps on the kept weights where a Hessian is given; 0 for
            the solver's own weights.
        options: arguments of the solver's constructor.

    Raises:
        ValueError: unknown solver or pattern, statistics that are missing or of a wrong shape, a
            density out of range, or a weight that is not a finite floating-point matrix.
    """
    started = _start(name, weight, density, pattern, statistics, out_dim, repair_steps, options)
    return _finish([started], repair_steps)[0]


def solve_many(
    name: str,
    weights: Mapping[str, torch.Tensor],
    density: float | Mapping[str, float | None] | None,
    pattern: str | MaskPattern | Mapping[str, str | MaskPattern] = "unstructured",
    *,
    statistics: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    out_dims: Mapping[str, Rows] | None = None,
    repair_steps: int = STEPS,
    **options: Any,
) -> dict[str, Solution]:
    """`solve` for many weights; small ones of equal matrix shape are repaired as one batch.

    Args:
        name: a registered solver.
        weights: name → weight, of any shapes.
        density: kept share, one for all or by name.
        pattern: as `MaskPattern` reads it, one for all or by name.
        statistics: name → what is known of the inputs; weights may be missing.
        out_dims: name → output dimension; 0 where missing.
        repair_steps: see `solve`.
        options: arguments of the solver's constructor.

    Returns:
        Name → what `solve` returns for it alone, up to rounding.

    Raises:
        ValueError: as `solve`, with the name of the weight; a weight without density or pattern.
    """
    for what, asked in (("density", density), ("pattern", pattern)):
        missing = [key for key in weights if isinstance(asked, Mapping) and key not in asked]
        if missing:
            raise ValueError(f'no {what} for the weight "{missing[0]}"; give every weight one')
    groups: dict[Any, dict[str, _Started]] = {}
    for key, weight in weights.items():
        share = density[key] if isinstance(density, Mapping) else density
        zeros = pattern[key] if isinstance(pattern, Mapping) else pattern
        given, out_dim = (statistics or {}).get(key), (out_dims or {}).get(key, 0)
        try:
            one = _start(name, weight, share, zeros, given, out_dim, repair_steps, options)
        except ValueError as error:
            raise ValueError(f'weight "{key}": {error}') from error
        kind: Any = key
        if one.hessian is not None and one.curvature is None and one.matrix.numel() <= SMALL:
            kind = (one.matrix.shape, one.matrix.dtype, one.matrix.device, one.hessian.dtype)
        groups.setdefault(kind, {})[key] = one
    found: dict[str, Solution] = {}
    for group in groups.values():
        keys, size = list(group), next(iter(group.values())).matrix.numel()
        step = max(1, BATCH // size)
        for first in range(0, len(keys), step):
            some = keys[first : first + step]
            solutions = _finish([group[key] for key in some], repair_steps)
            found |= dict(zip(some, solutions, strict=True))
    return {key: found[key] for key in weights}


@dataclass(frozen=True)
class _Started:
    """A solution in matrix view that may still be repaired."""

    matrix: torch.Tensor
    found: Solution
    hessian: torch.Tensor | None  # None: leave it as it is
    curvature: torch.Tensor | None  # None: every row by itself
    damping: float
    shape: torch.Size
    dtype: torch.dtype
    out_dim: Rows


def _start(
    name: str,
    weight: torch.Tensor,
    density: float | None,
    pattern: str | MaskPattern,
    statistics: Mapping[str, torch.Tensor] | None,
    out_dim: Rows,
    repair_steps: int,
    options: Mapping[str, Any],
) -> _Started:
    """Everything but the repair."""
    if weight.ndim < 2 or not weight.is_floating_point():
        raise ValueError(
            "solvers prune floating-point weights with an output and an input dimension (got "
            f"shape {tuple(weight.shape)}, {weight.dtype})"
        )
    if not isfinite(largest := _largest(weight)):
        raise ValueError("the weight is not finite (got inf or NaN); repair the checkpoint first")
    algorithm = build(name, **options)
    matrix = as_matrix(weight.detach(), out_dim)
    given, note = dict(statistics or {}), ""
    inputs = _checked(name, algorithm.needs, given, matrix.shape)
    energy = largest**2 * weight.numel() * (inputs * matrix.shape[1] if inputs else 1.0)
    if matrix.dtype != torch.float64 and largest and not RANGE[0] <= energy <= RANGE[1]:
        matrix = matrix.double()
        given = {key: torch.as_tensor(value).double() for key, value in given.items()}
        note = " Computed in float64: squares of these weights and inputs leave float32."

    state = algorithm.prepare(matrix, given)
    found = algorithm.solve(state, density, MaskPattern.parse(pattern))
    found = replace(found, status=found.status + note)
    like = (weight.shape, weight.dtype, out_dim)
    if "hessian" not in given or repair_steps <= 0 or found.factors is not None:
        return _Started(matrix, found, None, None, 0.0, *like)
    share = found.statistics.get("damping")
    if share is None:
        wide = torch.promote_types(matrix.dtype, torch.float32)
        share = shrinkage(given["hessian"].to(wide), given.get("samples"))
    curvature = given.get("curvature")
    if curvature is not None and is_diagonal(curvature):
        curvature = None
    return _Started(matrix, found, given["hessian"], curvature, share, *like)


def _finish(started: list[_Started], repair_steps: int) -> list[Solution]:
    """Repair solutions of one shape, or none of them; give them back their shapes and dtypes."""
    solutions = [one.found for one in started]
    hessians = [one.hessian for one in started if one.hessian is not None]
    if hessians and started[0].curvature is not None:
        one = started[0]
        solutions = [
            repair(
                one.matrix,
                one.found,
                hessians[0],
                repair_steps * TWO_SIDED,
                one.damping,
                one.curvature,
            )
        ]
    elif hessians:
        solutions = repair_many(
            [one.matrix for one in started],
            solutions,
            hessians,
            repair_steps,
            [one.damping for one in started],
        )
    return [
        replace(
            found,
            weight=from_matrix(narrowed(found.weight, one.dtype), one.shape, one.out_dim),
            mask=from_matrix(found.mask, one.shape, one.out_dim),
            factors=found.factors
            and Factors(
                *(narrowed(f, one.dtype) for f in (found.factors.left, found.factors.right))
            ),
        )
        for found, one in zip(solutions, started, strict=True)
    ]


def _checked(
    name: str, needs: frozenset[str], given: Mapping[str, torch.Tensor], shape: torch.Size
) -> float:
    """The largest variance of an input, or what stands for it; 0 where nothing is known."""
    missing = sorted(needs - set(given))
    if missing:
        raise ValueError(
            f'solver "{name}" needs the statistics {", ".join(missing)} of the inputs; collect '
            "them with pruners.statistics.input_statistics"
        )
    rows, columns = shape
    sizes: dict[str, tuple[int, ...]] = {
        "norms": (columns,),
        "hessian": (columns, columns),
        "gradients": (rows, columns),
        "curvature": (rows, rows),
    }
    strongest = 0.0
    for key, size in sizes.items():
        value = given.get(key)
        if value is None:
            continue
        if key == "curvature" and value.ndim == 1:
            size = (rows,)
        if tuple(value.shape) != size:
            raise ValueError(
                f'statistics "{key}": expected shape {size} for a matrix of {rows} × {columns} '
                f"(got {tuple(value.shape)})"
            )
        largest = _largest(value)
        if not isfinite(largest):
            raise ValueError(f'statistics "{key}" are not finite (got inf or NaN)')
        if key == "curvature":
            continue
        strongest = max(strongest, largest if key == "hessian" else largest**2)
    return strongest


def _largest(value: torch.Tensor) -> float:
    """Largest magnitude, inf or NaN if there is one; in one pass, without a temporary."""
    if not value.numel():
        return 0.0
    low, high = value.aminmax()
    return max(-low.item(), high.item())
