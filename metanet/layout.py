"""The structure of a network as index tables, computed once and used by every forward pass.

States live in one table with a row ("slot") per unit; `nowhere`, one row past the end, stands for
positions that belong to no unit. Weight matrices are cut into row tiles, and tiles of similar
shape are padded into blocks, so that a small network costs a handful of batched matrix products
and a large matrix is never touched as a whole.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from metanet.describe import ROLES, describe_axes, describe_tensors
from metanet.kernels import tap_coordinates
from metanet.matrices import Matrix, matricise, slots

if TYPE_CHECKING:
    from graphs import Network

CHANGED = ROLES
"""Roles whose values a metanetwork may change."""
MATRICES = ("weight", "embedding")
"""Roles that carry messages and sparsity budgets."""
READ = (*CHANGED, "running_mean", "running_var")
"""Roles that a metanetwork reads; everything else is constant to it."""
STATELESS = 4096
"""Frozen axes beyond this many units (vocabularies) carry no unit states."""
SILENT = 1024
"""A matrix with more than this many positions on a side without states carries no messages: its
entries reach the other side as statistics in the features, which is all that such messages hold."""
SMALL = 2**16
"""Padding is free of worry in blocks of up to this many entries."""
WASTE = 1.25
"""Larger blocks hold at most this many times their tiles' entries."""


@dataclass(frozen=True)
class Tile:
    """Rows `start` to `stop` of one matrix."""

    tensor: int
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """Tiles of matrices with the same kernel, padded to (taps, R, C) and stacked.

    Args:
        tiles: the B tiles.
        taps: sizes of the kernel dimensions.
        shape: (B, taps, R, C).
        rows: int64 (B, R, A), the slots of each row position; padding is `nowhere`.
        cols: int64 (B, C, A').
        row_weight: (B, R, A), the share of a message that reaches the unit: messages are averaged
            over the positions of the unit and over the tensors that produce it; 0 for `nowhere`.
        col_weight: (B, C, A'), likewise for the tensors that consume it.
        tensor: int64 (B,), index into `Layout.matrices`.
        extent: int64 (B, 2), rows and columns of each tile without padding.
        messages: whether the block takes part in message passing.
        changed: whether the metanetwork may change its values.
    """

    tiles: tuple[Tile, ...]
    taps: tuple[int, ...]
    shape: tuple[int, int, int, int]
    rows: torch.Tensor
    cols: torch.Tensor
    row_weight: torch.Tensor
    col_weight: torch.Tensor
    tensor: torch.Tensor
    extent: torch.Tensor
    messages: bool
    changed: bool

    @property
    def entries(self) -> int:
        """Number of weight entries, padding included."""
        return prod(self.shape)


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
    sides = [_Sides.of(m, axes, offsets, units) for m in matrices]
    row_share, col_share = _shares(sides, units)
    blocks = tuple(
        _block(group, matrices, sides, row_share, col_share, units, dtype, device)
        for group in _packed(matrices, sides, tile)
    )
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


@dataclass(frozen=True)
class _Sides:
    """Slots of the rows and columns of one matrix, and whether it carries messages."""

    rows: torch.Tensor
    cols: torch.Tensor
    messages: bool

    @classmethod
    def of(cls, m: Matrix, axes: dict, offsets: dict[str, int], nowhere: int) -> _Sides:
        rows, cols = (slots(d, axes, offsets, nowhere) for d in (m.row, m.col))
        silent = (len(rows) < m.rows and m.rows > SILENT) or (
            len(cols) < m.cols and m.cols > SILENT
        )
        some = bool((rows != nowhere).any() or (cols != nowhere).any())
        return cls(rows, cols, m.role in MATRICES and some and not silent)


def _shares(sides: list[_Sides], nowhere: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weight of each position's message to each of its units: a mean over positions and tensors."""

    def shares(tables: list[torch.Tensor], speak: list[bool]) -> list[torch.Tensor]:
        counts = [torch.bincount(t.reshape(-1), minlength=nowhere + 1) for t in tables]
        tensors = torch.zeros(nowhere + 1, dtype=torch.float64)
        for count, speaks in zip(counts, speak, strict=True):
            tensors += (count > 0) * speaks
        out = []
        for table, count in zip(tables, counts, strict=True):
            weight = 1 / (count * tensors.clamp(min=1)).clamp(min=1)
            weight[nowhere] = 0
            out.append(weight[table])
        return out

    speak = [s.messages for s in sides]
    return shares([s.rows for s in sides], speak), shares([s.cols for s in sides], speak)


def _packed(matrices: tuple[Matrix, ...], sides: list[_Sides], tile: int) -> list[list[Tile]]:
    """Tiles grouped into blocks: equal kernels and widths of slots, little padding, ≤ `tile`."""
    keyed = []
    for i, (m, s) in enumerate(zip(matrices, sides, strict=True)):
        step = max(1, tile // (m.kernel * m.cols))
        key = (s.messages, m.role in CHANGED, m.taps, s.rows.shape[1], s.cols.shape[1])
        for start in range(0, m.rows, step):
            stop = min(m.rows, start + step)
            keyed.append((key, m.cols, stop - start, Tile(i, start, stop)))
    keyed.sort(key=lambda item: (item[:3], item[3].tensor, item[3].start))
    groups: list[list[Tile]] = []
    last, real, rows, cols = None, 0, 0, 0
    for key, width, height, piece in keyed:
        rows, cols, real = max(rows, height), max(cols, width), real + height * width
        padded = rows * cols * (len(groups[-1]) + 1 if groups else 1)
        taps = prod(key[2])
        fits = padded * taps <= tile and padded <= max(WASTE * real, SMALL / taps)
        if key == last and fits:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            last, real, rows, cols = key, height * width, height, width
    return groups


def _block(
    tiles: list[Tile],
    matrices: tuple[Matrix, ...],
    sides: list[_Sides],
    row_share: list[torch.Tensor],
    col_share: list[torch.Tensor],
    nowhere: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Block:
    first = matrices[tiles[0].tensor]
    extent = [(t.stop - t.start, matrices[t.tensor].cols) for t in tiles]
    height, width = (max(lengths) for lengths in zip(*extent, strict=True))

    def row_table(source: torch.Tensor, t: Tile) -> torch.Tensor:
        return source[t.start : t.stop] if len(source) == matrices[t.tensor].rows else source

    rows = [row_table(sides[t.tensor].rows, t) for t in tiles]
    row_weight = [row_table(row_share[t.tensor], t) for t in tiles]
    cols = [sides[t.tensor].cols for t in tiles]
    col_weight = [col_share[t.tensor] for t in tiles]
    return Block(
        tiles=tuple(tiles),
        taps=first.taps,
        shape=(len(tiles), first.kernel, height, width),
        rows=_stacked(rows, height, nowhere).to(device),
        cols=_stacked(cols, width, nowhere).to(device),
        row_weight=_stacked(row_weight, height, 0).to(device, dtype),
        col_weight=_stacked(col_weight, width, 0).to(device, dtype),
        tensor=torch.tensor([t.tensor for t in tiles], device=device),
        extent=torch.tensor(extent, device=device),
        messages=sides[tiles[0].tensor].messages,
        changed=first.role in CHANGED,
    )


def _stacked(tables: list[torch.Tensor], length: int, padding: float) -> torch.Tensor:
    """(n_i, A) tables padded to (B, length, A); a side without units stays one expanded row."""
    if all(len(t) == 1 and t[0, 0] == padding for t in tables):
        return tables[0].expand(len(tables), length, 1)
    out = tables[0].new_full((len(tables), length, tables[0].shape[1]), padding)
    for row, table in zip(out, tables, strict=True):
        row[: len(table)] = table
    return out


def _incidence(
    sides: list[_Sides], matrices: tuple[Matrix, ...], unit_axis: torch.Tensor, nowhere: int
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
