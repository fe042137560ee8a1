"""Where a weight turns with an axis: which of its rows or columns, run by run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import atoms, unit_index
from graphs.symmetries.positions import runs
from graphs.symmetries.values import Symmetry
from pruners.solvers.matrix import as_matrix

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class Site:
    """Rows or columns of a weight's matrix that turn with an axis.

    Args:
        weight: name of the weight.
        axis: name of the axis.
        rows: whether rows turn (the weight makes the axis) or columns (it reads it).
        index: int64 (runs, units): of every run, the row or column of each unit.
        which: int64 (runs,), the matrix of each run; None where one matrix turns all.
    """

    weight: str
    axis: str
    rows: bool
    index: torch.Tensor
    which: torch.Tensor | None


def sites(net: Network, symmetry: Symmetry, weights: Iterable[str]) -> list[Site] | None:
    """Where weights turn with an axis.

    Args:
        net: the network.
        symmetry: of the axis.
        weights: names.

    Returns:
        A site for every slot of these weights; None where one turns in another way than by rows or
        columns of its matrix.
    """
    found, asked = list[Site](), set(weights)
    for slot in (*symmetry.writers, *symmetry.readers):
        if slot.tensor not in asked:
            continue
        tensor = net.tensors[slot.tensor]
        if slot.dim not in (tensor.output_dim, tensor.input_dim):
            return None
        dim, rows = tensor.dims[slot.dim], slot.dim == tensor.output_dim
        if symmetry.per is not None and symmetry.per not in atoms(dim):
            return None
        shape = [-1 if i == slot.dim else 1 for i in range(tensor.value.ndim)]
        device = tensor.value.device
        along = torch.arange(tensor.value.shape[slot.dim], device=device).view(shape)
        along = along.expand(tensor.value.shape)
        matrix = as_matrix(along, tensor.output_dim)
        place = matrix[:, 0] if rows else matrix[0]
        starts = runs(dim, symmetry.axis, slot.part, net.axes)
        # A kernel has one run for every tap.
        order = place.argsort(stable=True).view(tensor.value.shape[slot.dim], -1)
        index = order[starts.to(device)].transpose(1, 2).flatten(0, 1)
        which = None
        if symmetry.per is not None:
            units = unit_index(dim, symmetry.per, net.axes)
            which = units[starts[:, 0]].repeat_interleave(order.shape[1]).to(device)
        found.append(Site(slot.tensor, symmetry.axis, rows, index, which))
    return found
