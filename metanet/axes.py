"""What is known of an axis without looking at weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from graphs.cost import count_macs, count_params

if TYPE_CHECKING:
    from graphs import Network

LIMIT = 3.0
"""Features are clamped to [-LIMIT, LIMIT]."""
KINDS = ("channel", "feature", "head", "head feature", "group")
CLASSES = ("exact", "bias-fold", "norm-rescaled", "norm-changed")
"""Kinds and classes told apart; any other one reads as none of them."""
AXIS_FEATURES = 2 + 4 + 1 + len(KINDS) + len(CLASSES)


def describe_axes(net: Network, names: Sequence[str]) -> torch.Tensor:
    """Size, cost, freedom, kind and class of exactness of each axis.

    Args:
        net: the network.
        names: of the axes.

    Returns:
        float64 (axes, AXIS_FEATURES), in [-3, 3]: log size, relative to the network and absolute;
        share of the MACs and of the parameters that runs through the axis, and their logarithms
        per unit relative to the network; flags.
    """
    axes = [net.axes[name] for name in names]
    size = torch.tensor([float(a.size) for a in axes], dtype=torch.float64).log()
    columns = [size - size.mean(), (size - 4) / 2]
    for count in (count_macs, count_params):
        total = max(1, count(net))
        saved = [total - count(net, {a.name: a.size - 1}) for a in axes]
        per_unit = torch.tensor([s / total for s in saved], dtype=torch.float64)
        level = per_unit.clamp(min=1e-9).log()
        columns += [per_unit * size.exp(), level - level.mean()]
    flags = [
        [
            a.frozen is not None,
            *(a.kind == kind for kind in KINDS),
            *(a.exactness == name for name in CLASSES),
        ]
        for a in axes
    ]
    table = torch.tensor(flags, dtype=torch.float64).reshape(len(axes), -1)
    return torch.cat([torch.stack(columns, dim=1).clamp(-LIMIT, LIMIT), table], dim=1)
