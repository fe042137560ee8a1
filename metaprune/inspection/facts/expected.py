"""What pruning is expected to cost the predictions, axis by axis and weight by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from graphs import Network
from pruners import units
from pruners.curves import ExpectedLoss, axis_curves, mask_curves
from pruners.targets import SPARED

SOLVER = "sparsegpt"
"""The solver of the curves of masks: fast, and near enough to the others."""


def expected(net: Network, model: nn.Module, batches: Sequence[Any]) -> dict[str, Any]:
    """Curves of expected loss, on calibration batches (`pruners.curves`).

    Args:
        net: the traced network.
        model: its module.
        batches: inputs of the model.

    Returns:
        "units": axis → curve over the units that stay, "weights": name → curve over the share of
        single weights that stays, each {"kept": [...], "losses": [...]}; "unreached": weights that
        no gradient reaches → why.

    Raises:
        ValueError: the model is on the meta device, or computes numbers that are not finite.
    """
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        raise ValueError(
            "expected losses are measured on weights, and this model is on the meta device"
        )
    found = ExpectedLoss(net, batches, model=model)
    scores = {
        axis: each
        for axis, each in units.base_scores(net, None).items()
        if net.axes[axis].kind not in SPARED
    }
    widths = axis_curves(net, found.sides, scores, scores)
    masks = mask_curves(found.sides, SOLVER)
    return {
        "units": {axis: each.curve.to_json() for axis, each in widths.items()},
        "weights": {name: curve.to_json() for name, curve in masks.items()},
        "unreached": found.unreached,
    }
