"""Depth-linear budget: one slope over depth, of masks or of widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Loss, finite, logit
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.problems.request import Kept, Request, Scores
from pruners.budgets.problems.widths import place
from pruners.budgets.registry import rule
from pruners.budgets.structure import first_use
from pruners.solvers.matrix import Rows
from pruners.solvers.zeros import MaskPattern

if TYPE_CHECKING:
    from graphs import Network

SLOPES = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
"""Tried where a loss can judge, as shares of the steepest line that the budget allows."""

LOGIT_SLOPES = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
"""Tried for widths: logit of the first axis minus that of the last one."""


@rule("depth-linear", divides="masks")
def depth_linear_masks(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    depth: Mapping[str, float],
    slope: float | None = None,
    loss: Loss | None = None,
    slopes: Sequence[float] = SLOPES,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, Rows] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    r"""k_l = density + slope · (x̄ − x_l): with a positive slope, later layers keep less.

    Huang et al. 2025, "Determining Layer-wise Sparsity for Large Language Models Through a
    Theoretical Perspective" (arXiv 2502.14770, §3): the sparsities of the blocks are an arithmetic
    progression, and its one common difference is found by a few trials. x̄ is the size-weighted mean
    depth, so the line keeps the budget; where it would leave the bounds, all shares are shifted
    back onto the budget together.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        depth: tensor name → place in the forward pass, 0 to 1.
        slope: kept share of the first layer minus that of the last one; None tries `slopes`.
        loss: judges the slopes, by forward passes.
        slopes: to try, in units of the steepest line within 0 and 1.
        pattern, out_dims, lower, upper: see `MaskProblem`.

    Raises:
        ValueError: neither a slope nor a loss to find one.
    """
    if slope is not None:
        return line(weights, density, depth, slope, lower, upper)
    if loss is None:
        raise ValueError(
            'budget "depth-linear" needs calibration batches to find its slope, or the option '
            "slope (kept share of the first layer minus that of the last)"
        )
    steepest = 2 * min(density, 1 - density)
    problem = MaskProblem(weights, density, loss, pattern, out_dims, lower, upper)
    best: tuple[float, dict[str, float]] | None = None
    for share in slopes:
        shares = line(weights, density, depth, share * steepest, lower, upper)
        value = problem.loss(problem.realise(problem.start(shares)))
        finite(value, f"slope {share * steepest:.3g}")
        if best is None or value < best[0]:
            best = value, shares
    if best is None:
        raise ValueError('budget "depth-linear" needs at least one of `slopes` (got none)')
    return best[1]


@rule("depth-linear", divides="widths")
def depth_linear_widths(
    request: Request,
    *,
    slope: float | None = None,
    loss: Loss | None = None,
    slopes: Sequence[float] = LOGIT_SLOPES,
) -> Kept:
    """Logits of the kept shares fall linearly with depth; see `depth_linear_masks`.

    Args:
        request: what is asked.
        slope: logit of the first axis minus that of the last one; None tries `slopes`.
        loss: judges the slopes, by forward passes.
        slopes: to try.

    Raises:
        ValueError: neither a slope nor a loss to find one.
    """
    depth = axis_depth(request.net, request.scores)

    def along(step: float) -> Kept:
        logits = {axis: torch.tensor(-step * x) for axis, x in depth.items()}
        return request.select(place(request.scores, logits))

    if slope is not None:
        return along(slope)
    if loss is None:
        raise ValueError(
            'budget "depth-linear" needs calibration batches to find its slope, or the option slope'
        )
    problem = request.problem(loss)
    found: list[tuple[float, Kept]] = []
    for step in slopes:
        kept = along(step)
        found.append((finite(problem.loss_of(kept), f"slope {step}"), kept))
    return min(found, key=lambda pair: pair[0])[1]


def line(
    weights: Mapping[str, torch.Tensor],
    density: float,
    depth: Mapping[str, float],
    slope: float,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """The line of one slope, on the budget and inside the bounds."""
    size = torch.tensor([weight.numel() for weight in weights.values()], dtype=torch.float64)
    place = torch.tensor([depth[name] for name in weights], dtype=torch.float64)
    centre = (size * place).sum() / size.sum()
    share = density + slope * (centre - place)
    return on_budget(share, weights, density, lower, upper)


def on_budget(
    share: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    density: float,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """Shares (L,) as they are if they meet the budget inside their bounds, else projected."""
    sizes = [weight.numel() for weight in weights.values()]
    low, high = bounds(lower, weights, 0.0), bounds(upper, weights, 1.0)
    kept = (share * torch.tensor(sizes)).sum()
    met = abs(kept - density * sum(sizes)) <= 1e-9 * sum(sizes)
    if not (met and (share >= low).all() and (share <= high).all()):
        share = project(logit(share, low, high), sizes, density, low, high)
    return dict(zip(weights, share.tolist(), strict=True))


def axis_depth(net: Network, axes: Scores) -> dict[str, float]:
    """Place of every axis in the network, 0 to 1: by the first tensor that produces it."""
    uses = first_use(net)
    last = max(uses.values(), default=0) + 1
    begins = dict.fromkeys(axes, last)
    for name, tensor in net.tensors.items():
        for axis in tensor.axes_made:
            if axis in begins:
                begins[axis] = min(begins[axis], uses.get(name, last))
    order = {place: i for i, place in enumerate(sorted(set(begins.values())))}
    return {axis: order[place] / max(len(order) - 1, 1) for axis, place in begins.items()}
