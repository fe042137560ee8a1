"""From positions of a tensor dimension to units of an axis, and back.

Scores, evidence and masks all reduce to two linear maps that are each other's transpose:
`to_units` adds what the positions of a dimension carry into the units they belong to, and
`to_positions` copies what the units carry to their positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from graphs.axes.dims import Atom, Axis, Dim, Sum, atoms, size, unit_index


def sum_over_others(entries: torch.Tensor, kept: int) -> torch.Tensor:
    """Sum a tensor over every dimension but `kept`; shape (entries.shape[kept],)."""
    others = [i for i in range(entries.ndim) if i != kept]
    return entries.sum(dim=others) if others else entries


def to_units(
    per_position: torch.Tensor, dim: Dim, axis: str, axes: Mapping[str, Axis]
) -> torch.Tensor:
    """Add per-position values into the units of one axis; differentiable.

    Args:
        per_position: one value for every position along `dim`, shape (size(dim),).
        dim: the dimension that the positions run along.
        axis: name of the axis whose units collect the values.
        axes: the axes of the network.

    Returns:
        Shape (axes[axis].size,), dtype and device of `per_position`; 0 for units without position.
    """
    if isinstance(dim, Atom) and dim.axis == axis:
        return per_position
    index = unit_index(dim, axis, axes).to(per_position.device)
    # Position -1 (the axis is not involved) goes to a slot in front that is dropped.
    slots = per_position.new_zeros(axes[axis].size + 1)
    return slots.index_add(0, index + 1, per_position)[1:]


def to_all_units(
    per_position: torch.Tensor, dim: Dim, wanted: Iterable[str], axes: Mapping[str, Axis]
) -> dict[str, torch.Tensor]:
    """`to_units` for several axes of one dimension, in one pass over a concatenation.

    Args:
        per_position: one value for every position along `dim`, shape (size(dim),).
        dim: the dimension that the positions run along.
        wanted: names of axes; those that do not occur in `dim` are left out.
        axes: the axes of the network.

    Returns:
        Axis name → shape (axes[axis].size,).
    """
    wanted = set(wanted)
    if not isinstance(dim, Sum):
        return {a: to_units(per_position, dim, a, axes) for a in atoms(dim) if a in wanted}
    found: dict[str, torch.Tensor] = {}
    parts = per_position.split([size(term, axes) for term in dim.terms])
    for term, part in zip(dim.terms, parts, strict=True):
        if isinstance(term, Atom):
            along = {term.axis: part} if term.axis in wanted else {}
        else:
            along = to_all_units(part, term, wanted, axes)
        for axis, units in along.items():
            found[axis] = found[axis] + units if axis in found else units
    return found


def to_positions(
    per_unit: torch.Tensor, dim: Dim, axis: str, axes: Mapping[str, Axis]
) -> torch.Tensor:
    """Copy per-unit factors to the positions of a dimension; differentiable.

    Args:
        per_unit: one factor for every unit of the axis, shape (axes[axis].size,).
        dim: the dimension to spread along.
        axis: name of the axis that `per_unit` belongs to.
        axes: the axes of the network.

    Returns:
        Shape (size(dim),); 1 at positions that do not involve the axis.
    """
    if isinstance(dim, Atom) and dim.axis == axis:
        return per_unit
    index = unit_index(dim, axis, axes).to(per_unit.device)
    return torch.cat([per_unit.new_ones(1), per_unit])[index + 1]
