"""Which positions of a dimension are which unit of an axis, in which part of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from graphs.axes.dims import Atom, Axis, Dim, Prod, Sum, size, unit_index
from graphs.relate.structure import Structure
from graphs.symmetries.passing.states import parts


def runs(dim: Dim, axis: str, part: int, axes: Mapping[str, Axis]) -> torch.Tensor:
    """Positions of the units of an axis in one part of a dimension, run by run.

    Args:
        dim: the dimension.
        axis: name of the axis.
        part: which of its parts that run along the axis.
        axes: the axes.

    Returns:
        int64 (runs, units of the axis): every run has each unit once.
    """
    units = unit_index(dim, axis, axes)
    inside = (units >= 0) & (_part_index(dim, axis, axes) == part)
    positions = inside.nonzero().flatten()
    by_unit = positions[units[positions].argsort(stable=True)]
    return by_unit.view(axes[axis].size, -1).T


def entries_beside(net: Structure, scale: str, weight: str, dim: int) -> torch.Tensor | None:
    """For every position of a weight's dimension, the entry of a scale that meets it there.

    Args:
        net: the network.
        scale: name of a tensor that runs along one dimension (others have size 1).
        weight, dim: of the weight.

    Returns:
        int64 positions, -1 where none meets it; None where the two are laid out in two ways.
    """
    tensor, place = net.tensors[scale], net.tensors[weight].dims[dim]
    own = next((d for d, n in zip(tensor.dims, tensor.value.shape, strict=True) if n > 1), None)
    if own == place:
        return torch.arange(size(place, net.axes))
    return unit_index(place, own.axis, net.axes) if isinstance(own, Atom) else None


def _part_index(dim: Dim, axis: str, axes: Mapping[str, Axis]) -> torch.Tensor:
    """For every position, its part; -1 where it does not run along the axis."""
    if isinstance(dim, Atom):
        return torch.full((size(dim, axes),), 0 if dim.axis == axis else -1)
    if isinstance(dim, Sum):
        found, before = [], 0
        for term in dim.terms:
            index = _part_index(term, axis, axes)
            found.append(torch.where(index >= 0, index + before, -1))
            before += parts(term, axis)
        return torch.cat(found)
    if isinstance(dim, Prod):
        index = torch.full((1,), -1)
        for factor in dim.factors:
            own = _part_index(factor, axis, axes)
            index = torch.where(own >= 0, own, index[:, None].expand(-1, own.numel())).reshape(-1)
        return index
    return torch.full((size(dim, axes),), -1)
