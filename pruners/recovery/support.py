"""Weights that keep the masks they have: the best ones on a given support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from pruners.recovery.refit_in_order import Form
from pruners.recovery.regression import Regression
from pruners.solvers import MaskPattern, Solution, as_matrix, repair
from pruners.solvers.matrix import out_dims

if TYPE_CHECKING:
    from graphs import Network


def on_support(net: Network, masks: Mapping[str, torch.Tensor]) -> Form | None:
    """What `refit_in_order` makes of weights under masks: the best ones that are 0 outside.

    The error of a weight W' on its mask is the regression's plus ‖(W − W') X'‖², W the best one
    without a mask, so W' is the repair of W on the support (`pruners.solvers.repair`).

    Args:
        net: the network that is refitted.
        masks: parameter name → bool, in the shape of the weight.

    Returns:
        None where there are no masks.
    """
    if not masks:
        return None
    sides = out_dims(net, [name for name in masks if name in net.tensors])

    def form(name: str, weight: torch.Tensor, sums: Regression) -> torch.Tensor | None:
        if name not in sides:
            return None
        matrix = weight.flatten(0, 1)
        mask = as_matrix(masks[name], sides[name]).to(matrix.device)
        hessian = (sums.xx.mean(0) / float(sums.count.mean())).to(matrix)
        found = repair(matrix, Solution(matrix * mask, mask, ""), hessian)
        return found.weight.unflatten(0, (len(weight), -1))

    return form


def nested(
    found: Solution,
    matrix: torch.Tensor,
    ask: Wanted,
    within: torch.Tensor,
    hessian: torch.Tensor | None,
) -> Solution:
    """A solution whose mask is part of an earlier one, so that pruning again never brings back.

    Weights that the solver kept stay where they may; the places of those it kept outside go to the
    largest |W| inside, as far as the pattern allows.

    Args:
        found: of the solver, over the matrix view.
        matrix: W, what the solver was given, (out, in).
        ask: its density and pattern.
        within: the earlier mask, bool, (out, in).
        hessian: second moments of the inputs, for the best weights on the new mask; without, those
            of the solver or of W stay.
    """
    size = matrix.abs()
    bonus = (size.max() + 1) * found.mask
    scores = (size + bonus) * within.to(matrix.device)
    mask = ask.pattern.top(scores, ask.density) & within.to(matrix.device)
    start = torch.where(found.mask, found.weight.to(matrix), matrix) * mask
    moved = replace(found, weight=start, mask=mask)
    if hessian is None or not bool(mask.any()):
        return moved
    return replace(repair(matrix, moved, hessian.to(matrix)), status=found.status)


class Wanted(Protocol):
    """How much of a weight is to stay, and where."""

    @property
    def density(self) -> float | None:
        """Kept share of the mask; None for N:M."""

    @property
    def pattern(self) -> MaskPattern:
        """Where zeros may fall."""
