"""The structure of a network as index tables, computed once and used by every forward pass.

States live in one table with a row ("slot") per unit; `nowhere`, one row past the end, stands for
positions that belong to no unit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from graphs import Network
from metanet.tables.describe import describe_axes, describe_tensors
from metanet.tables.matrices import CHANGED, READ, Matrix, matricise
from metanet.tables.taps import tap_coordinates
from metanet.tables.tiles import Block, Sides, pack

STATELESS = 4096
"""Frozen axes beyond this many units (vocabularies) carry no unit states."""


@dataclass(frozen=True)
class Layout:
    """Index tables of a network's structure; holds no weight values.

    Args:
        axes: names of the axes that carry states, in slot order.
        sizes: their sizes.
        cuttable: for each, whether it is not frozen.
        unit_axis: int64 (units,), the axis of each slot.
        matrices: every tensor that is read, as a matrix; those that may change come first.
        changed: how many of them may change; these have a state, called token.
        lengths: (changed, 2), rows and columns of each.
        blocks: tiles of all matrices, packed.
        about_axes: (axes, AXIS_FEATURES), what is known of each axis without weights.
        about_tensors: (changed, TENSOR_STRUCTURE), likewise.
        coordinates: kernel shape -> (taps, 3) coordinates.
        incidence: relation -> int64 (2, links), tensor index and axis index.
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    cuttable: tuple[bool, ...]
    unit_axis: torch.Tensor
    matrices: tuple[Matrix, ...]
    changed: int
    lengths: torch.Tensor
    blocks: tuple[Block, ...]
    about_axes: torch.Tensor
    about_tensors: torch.Tensor
    coordinates: dict[tuple[int, ...], torch.Tensor]
    incidence: dict[str, torch.Tensor]

    @property
    def units(self) -> int:
        """Number of slots; also the slot that stands for no unit."""
        return sum(self.sizes)

    def offsets(self) -> dict[str, int]:
        """Axis name -> its first slot."""
        starts = [0]
        for size in self.sizes:
            starts.append(starts[-1] + size)
        return dict(zip(self.axes, starts, strict=False))

    def by_axis(self, table: torch.Tensor) -> dict[str, torch.Tensor]:
        """(units, ...) -> axis name -> (size, ...)."""
        return dict(zip(self.axes, table.split(self.sizes), strict=True))


def structure(net: Network) -> Hashable:
    """What a layout depends on: equal structures share one layout."""
    tensors = tuple(
        (name, t.role, t.dims, t.produces, tuple(t.value.shape), t.value.is_floating_point())
        for name, t in net.tensors.items()
    )
    return tuple(net.axes.values()), tensors, tuple(net.program.costs)


def build_layout(
    net: Network, *, tile: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Layout:
    """Tabulate the structure of `net`.

    Args:
        net: the network.
        tile: number of weight entries handled at once; a single row may exceed it.
        dtype: of the message weights and coordinates.
        device: where the tables live.
    """
    axes = dict(net.axes)
    kept = [a for a in axes.values() if a.frozen is None or a.size <= STATELESS]
    offsets, units = {}, 0
    for axis in kept:
        offsets[axis.name] = units
        units += axis.size
    matrices = tuple(
        matricise(name, t.role, tuple(t.value.shape), t.dims, t.produces)
        for name, t in net.tensors.items()
        if t.role in READ and t.value.is_floating_point() and t.value.numel() > 0
    )
    matrices = tuple(sorted(matrices, key=lambda m: m.role not in CHANGED))
    changed = sum(m.role in CHANGED for m in matrices)
    sides = [Sides.of(m, axes, offsets, units) for m in matrices]
    blocks = pack(matrices, sides, units, tile=tile, dtype=dtype, device=device)
    unit_axis = [torch.zeros(0, dtype=torch.int64)]
    unit_axis += [torch.full((a.size,), i) for i, a in enumerate(kept)]
    return Layout(
        axes=tuple(a.name for a in kept),
        sizes=tuple(a.size for a in kept),
        cuttable=tuple(a.frozen is None for a in kept),
        unit_axis=torch.cat(unit_axis).to(device),
        matrices=matrices,
        changed=changed,
        lengths=torch.tensor(
            [(m.rows, m.cols) for m in matrices[:changed]], dtype=dtype, device=device
        ).reshape(-1, 2),
        blocks=blocks,
        about_axes=describe_axes(net, [a.name for a in kept]).to(device),
        about_tensors=describe_tensors(net, matrices[:changed]).to(device),
        coordinates={b.taps: tap_coordinates(b.taps).to(device, dtype) for b in blocks},
        incidence={
            relation: links.to(device)
            for relation, links in _incidence(sides, matrices, torch.cat(unit_axis), units).items()
        },
    )


def _incidence(
    sides: list[Sides], matrices: tuple[Matrix, ...], unit_axis: torch.Tensor, nowhere: int
) -> dict[str, torch.Tensor]:
    """Links between tensors and axes: a tensor `produces` or `consumes` an axis."""
    links: dict[str, list[tuple[int, int]]] = {"produces": [], "consumes": []}
    for i, (s, m) in enumerate(zip(sides, matrices, strict=True)):
        if m.role not in CHANGED:
            continue
        for relation, table in (("produces", s.rows), ("consumes", s.cols)):
            units = table[table != nowhere].unique()
            links[relation] += [(i, int(a)) for a in unit_axis[units].unique()]
    return {
        relation: torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        for relation, pairs in links.items()
    }
