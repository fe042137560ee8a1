"""Distortion budget: the least sum of what pruning each tensor alone does to the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import torch

from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Loss, finite
from pruners.budgets.registry import rule
from pruners.budgets.rules.depth_linear import on_budget
from pruners.solvers.matrix import Rows
from pruners.solvers.zeros import MaskPattern

GRID = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
"""Kept shares at which curves are measured; at 1 nothing is pruned."""

BINS = 2000


@rule("distortion", divides="masks")
def distortion(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    grid: Sequence[float] = GRID,
    method: str = "lagrangian",
    bins: int = BINS,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, Rows] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    r"""Minimise Σ_l δ_l(k_l) with Σ n_l k_l on the budget; δ_l is the output's distortion when
    tensor l alone keeps the share k_l.

    Xu et al. 2023, "Efficient Joint Optimization of Layer-Adaptive Weight Pruning" (rate-distortion
    by dynamic programming). Curves are made monotone and the budget is counted in bins instead of
    weights. It assumes that distortions add up; they do not where many tensors are pruned hard,
    which is what `price` sees.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: the output's distance from the dense one; measures the curves by forward passes, one
            for each tensor and point of the grid below 1.
        curves: measured before, by `measure_curves`; the loss is then not needed.
        grid: kept shares of the points, ascending, the last one 1.
        method: "lagrangian" (convex hulls, continuous shares, exact and fast) or "dp" (dynamic
            programming over points of the grid, for curves that are far from convex).
        bins: of the budget, for "dp".
        pattern, out_dims, lower, upper: see `MaskProblem`.

    Raises:
        ValueError: neither curves nor a loss, an unknown method, or a grid that does not end at 1.
    """
    if method not in METHODS:
        raise ValueError(f'unknown method "{method}": expected one of {", ".join(METHODS)}')
    points = list(grid)
    if points != sorted(set(points)) or not points or points[0] < 0 or points[-1] != 1:
        raise ValueError(f"the grid must ascend from at least 0 and end at 1 (got {points})")
    if curves is None:
        if loss is None:
            raise ValueError(
                'budget "distortion" needs calibration batches to measure its curves; provide '
                "them, or choose a rule that reads the weights alone"
            )
        problem = MaskProblem(weights, density, loss, pattern, out_dims)
        curves = measure_curves(problem, points)
    sizes = [weight.numel() for weight in weights.values()]
    listed = [monotone(curves[name]) for name in weights]
    total = density * sum(sizes)
    if method == "dp":
        chosen = dynamic_program(listed, points, sizes, total, bins)
        share = [points[i] for i in chosen]
        # What the bins and the grid leave over goes where it lowers the sum the most.
        share = fill(listed, points, sizes, total, share)
    else:
        share = fill(listed, points, sizes, total, [0.0] * len(sizes))
    return on_budget(torch.tensor(share, dtype=torch.float64), weights, density, lower, upper)


METHODS = ("lagrangian", "dp")


def measure_curves(problem: MaskProblem, grid: Sequence[float]) -> dict[str, list[float]]:
    """What the loss rises by when one tensor alone keeps each share of the grid; 0 at 1.

    A loss that is not zero for the dense weights (batch norms that use the statistics of the batch)
    would otherwise count as a reason to leave tensors whole. Costs one forward pass over the
    calibration data for each tensor and point below 1, and one for the dense weights.
    """
    full = list(problem.levels.whole)
    dense = finite(problem.loss(tuple(full)), "the dense weights")
    curves: dict[str, list[float]] = {}
    for i, name in enumerate(problem.dials):
        curve = []
        for share in grid[:-1]:
            choice = (*full[:i], round(share * full[i]), *full[i + 1 :])
            value = finite(problem.loss(choice), f'share {share} of "{name}"')
            curve.append(max(0.0, value - dense))
        curves[name] = [*curve, 0.0]
    return curves


def monotone(curve: Sequence[float]) -> list[float]:
    """The smallest curve above this one that never rises with the kept share."""
    return list(accumulate(reversed(curve), max))[::-1]


def dynamic_program(
    curves: Sequence[Sequence[float]],
    grid: Sequence[float],
    sizes: Sequence[int],
    total: float,
    bins: int = BINS,
) -> list[int]:
    """The point of the grid for every tensor with the least sum of curves within the budget.

    Costs are rounded up to whole bins, so the budget is never exceeded; with `bins` equal to
    `total` and costs of whole weights the solution is exact.

    Args:
        curves: distortion of every tensor at every point.
        grid: kept shares, ascending; the first point is free where nothing cheaper fits.
        sizes: weights of every tensor.
        total: weights that may stay.
        bins: the budget counts in total / bins.

    Returns:
        An index into the grid for every tensor.

    Raises:
        ValueError: a budget below the smallest point of the grid for every tensor.
    """
    unit = max(total / max(bins, 1), 1e-12)
    best = torch.full((bins + 1,), torch.inf, dtype=torch.float64)
    best[0] = 0.0  # best[b]: least distortion of the tensors so far at a cost of b bins
    picks: list[torch.Tensor] = []
    costs: list[list[int]] = []
    for curve, size in zip(curves, sizes, strict=True):
        # A share of a weight more than a whole bin is rounding, not cost.
        cost = [max(0, int(-(-(k * size - 1e-6) // unit))) for k in grid]
        after = torch.full_like(best, torch.inf)
        pick = torch.full((bins + 1,), -1, dtype=torch.int64)
        for point, (value, step) in enumerate(zip(curve, cost, strict=True)):
            if step > bins:
                continue
            candidate = torch.full_like(best, torch.inf)
            candidate[step:] = best[: bins + 1 - step] + value
            better = candidate < after
            after = torch.where(better, candidate, after)
            pick[better] = point
        best = after
        picks.append(pick)
        costs.append(cost)
    if not torch.isfinite(best).any():
        raise ValueError(
            f"a budget of {total:.0f} weights is below the grid, which keeps at least "
            f"{grid[0]:.3g} of every tensor; add a smaller share to the grid"
        )
    place = int(best.argmin())
    chosen = []
    for pick, cost in zip(reversed(picks), reversed(costs), strict=True):
        point = int(pick[place])
        chosen.append(point)
        place -= cost[point]
    return chosen[::-1]


def fill(
    curves: Sequence[Sequence[float]],
    grid: Sequence[float],
    sizes: Sequence[int],
    total: float,
    start: Sequence[float],
) -> list[float]:
    """Spend a budget on the steepest pieces of the lower convex hulls, from a start upwards.

    From nothing kept this is the Lagrangian optimum of the hulls: every piece that is bought has a
    slope of at least λ, and one piece at most is bought in part.

    Args:
        curves: distortion of every tensor at every point, monotone.
        grid: kept shares, ascending.
        sizes: weights of every tensor.
        total: weights that stay altogether.
        start: kept share of every tensor to begin with.

    Returns:
        Kept share of every tensor, on the budget.
    """
    pieces = []  # (gain per weight, tensor, share to reach)
    for i, (curve, size) in enumerate(zip(curves, sizes, strict=True)):
        for (x0, y0), (x1, y1) in hull(grid, curve, start[i]):
            pieces.append(((y0 - y1) / ((x1 - x0) * size), i, x1))
    share = list(start)
    left = total - sum(k * n for k, n in zip(start, sizes, strict=True))
    for _, i, reach in sorted(pieces, key=lambda piece: (-piece[0], piece[1], piece[2])):
        if left <= 0:
            break
        step = min((reach - share[i]) * sizes[i], left)
        share[i] += step / sizes[i]
        left -= step
    return share


def hull(
    grid: Sequence[float], curve: Sequence[float], start: float
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Segments of the lower convex hull of a curve from a share upwards.

    Below the first point of the grid the curve is taken to rise at the hull's first slope, or more
    steeply: a tensor is not emptied on the word of an extrapolation.
    """
    points = [(x, y) for x, y in zip(grid, curve, strict=True) if x >= start - 1e-12]
    if points and points[0][0] > start + 1e-12:
        if start <= 0:
            x, y = points[0]
            slope = max((y - points[1][1]) / (points[1][0] - x), 0.0) if len(points) > 1 else 0.0
            points.insert(0, (start, y + max(2 * slope * x, y)))
        else:
            points.insert(0, (start, points[0][1]))
    kept: list[tuple[float, float]] = []
    for x, y in points:
        while len(kept) > 1:
            (x0, y0), (x1, y1) = kept[-2:]
            if (y1 - y0) * (x - x1) < (y - y1) * (x1 - x0):
                break
            kept.pop()
        kept.append((x, y))
    return list(pairwise(kept))
