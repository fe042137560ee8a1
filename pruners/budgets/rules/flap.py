"""FLAP budget: units whose fluctuation the next layer would miss, standardised over each axis."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule


@rule("flap", divides="widths")
def flap(request: Request, *, fluctuations: Mapping[str, torch.Tensor]) -> Kept:
    r"""One threshold over z = (s − mean s) / std s of every axis, s(u) = Σ_j∈u Var(x_j)·‖W_:,j‖².

    An et al. 2024, "Fluctuation-based Adaptive Structured Pruning" (FLAP), §4: the metric WIFV with
    the adaptive standardised ranking of heads and channels. What a unit contributes on average is
    folded into the next bias, so what it is worth is how much that fluctuates. Axes that no linear
    map consumes are ranked by their scores, standardised alike.

    Args:
        request: what is asked.
        fluctuations: axis name → s, shape (size,); see `pruners.statistics.fluctuations`.
    """
    found = {}
    for axis, score in request.scores.items():
        seen = fluctuations.get(axis)
        s = (score if seen is None else seen).detach().cpu().double()
        found[axis] = (s - s.mean()) / s.std(correction=0).clamp_min(1e-30)
    return request.select(found)
