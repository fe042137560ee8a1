"""Curves of masks: what a weight loses when its solver leaves it a share of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pruners.curves.curve import Curve
from pruners.curves.sides import Sides
from pruners.solvers import MaskPattern, solve

GRID = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
"""Kept shares at which a solver is asked; between them losses are interpolated."""

HELD = frozenset({"hessian", "norms"})
"""What a solver may need: both sides of a weight hold it."""


def mask_curves(
    sides: Mapping[str, Sides],
    solver: str,
    pattern: str | MaskPattern = "unstructured",
    grid: Sequence[float] = GRID,
    two_sided: bool = True,
) -> dict[str, Curve]:
    """Curves of weights over the share of them that stays.

    Args:
        sides: of the weights.
        solver: that prunes them, with a repair; needs no more than `HELD`.
        pattern: of the masks; N:M has a grid of its own, the multiples of 1/M.
        grid: kept shares, ascending, the last one 1.
        two_sided: whether the solver knows the curvature.
    """
    asked = MaskPattern.parse(pattern)
    points = [n / asked.m for n in range(1, asked.m + 1)] if asked.m else list(grid)
    return {
        name: Curve.of(points, [_lost(one, solver, asked, share, two_sided) for share in points])
        for name, one in sides.items()
    }


def _lost(one: Sides, solver: str, pattern: MaskPattern, share: float, two_sided: bool) -> float:
    if share >= 1:
        return 0.0
    if share <= 0:
        return one.energy
    groups = len(one.weight)
    given = {
        "hessian": one.hessian.mean(0).float(),
        "samples": torch.tensor(one.samples),
    }
    given["norms"] = given["hessian"].diagonal().clamp_min(0).sqrt()
    if two_sided:
        given["curvature"] = torch.block_diag(*one.curvature).float()
    dense = one.weight.flatten(0, 1)
    found = solve(solver, dense.float(), share, pattern.at(share), statistics=given)
    change = found.weight.to(dense) - dense
    return one.loss(change.unflatten(0, (groups, -1)))
