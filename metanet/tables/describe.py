"""What is known of axes and tensors without looking at weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graphs import Network
from graphs.axes.dims import Dim, atoms
from graphs.cost import count_macs, count_params
from metanet.tables.matrices import CHANGED, Matrix

LIMIT = 3.0
"""Features are clamped to [-LIMIT, LIMIT]."""
KINDS = ("channel", "feature", "head", "head feature", "group")
CLASSES = ("exact", "bias-fold", "norm-rescaled", "norm-changed")
"""Kinds and classes told apart; any other one reads as none of them."""
AXIS_FEATURES = 3 + 4 + 1 + len(KINDS) + len(CLASSES)
TENSOR_STRUCTURE = 5 + 2 + len(CHANGED)


def describe_axes(net: Network, names: Sequence[str]) -> torch.Tensor:
    """Size, cost, freedom, kind and class of exactness of each axis.

    Args:
        net: the network.
        names: of the axes.

    Returns:
        float64 (axes, AXIS_FEATURES), in [-3, 3]: log size, relative to the network and absolute;
        place from first (-1) to last (1); share of the MACs and of the parameters that runs
        through the axis, and their logarithms per unit relative to the network; flags.
    """
    if not names:
        return torch.zeros(0, AXIS_FEATURES, dtype=torch.float64)
    axes = [net.axes[name] for name in names]
    size = torch.tensor([float(a.size) for a in axes], dtype=torch.float64).log()
    place = torch.linspace(-1, 1, len(axes), dtype=torch.float64)
    columns = [size - size.mean(), (size - 4) / 2, place]
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


def describe_tensors(net: Network, matrices: Sequence[Matrix]) -> torch.Tensor:
    """Size, place in the network and role of each tensor.

    Args:
        net: the network.
        matrices: its tensors, in the order of the network.

    Returns:
        float64 (tensors, TENSOR_STRUCTURE), in [-3, 3]: logarithms of rows and columns relative to
        the network, of taps, and of the share of all weights; place from first (-1) to last (1);
        flags.
    """
    if not matrices:
        return torch.zeros(0, TENSOR_STRUCTURE, dtype=torch.float64)
    sizes = torch.tensor([(m.rows, m.cols, m.kernel) for m in matrices], dtype=torch.float64)
    rows, cols, taps = sizes.log().unbind(1)
    share = sizes.prod(1) / sizes.prod(1).sum()
    columns = [
        rows - rows.mean(),
        cols - cols.mean(),
        taps,
        share.log() / 3 + 1,
        torch.linspace(-1, 1, len(matrices), dtype=torch.float64),
    ]
    flags = [
        [_frozen(net, m.row), _frozen(net, m.col), *(m.role == role for role in CHANGED)]
        for m in matrices
    ]
    table = torch.tensor(flags, dtype=torch.float64)
    return torch.cat([torch.stack(columns, dim=1).clamp(-LIMIT, LIMIT), table], dim=1)


def _frozen(net: Network, dim: Dim) -> bool:
    return all(net.axes[a].frozen is not None for a in atoms(dim))
