"""Weight matrices cut into row tiles, and tiles of similar shape padded into blocks.

A small network costs a handful of batched matrix products, and a large matrix is never touched as
a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from graphs.axes.dims import Axis
from metanet.tables.matrices import CHANGED, MATRICES, Matrix, slots

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
class Sides:
    """Slots of the rows and columns of one matrix, and whether it carries messages."""

    rows: torch.Tensor
    cols: torch.Tensor
    messages: bool

    @classmethod
    def of(
        cls, m: Matrix, axes: Mapping[str, Axis], offsets: dict[str, int], nowhere: int
    ) -> Sides:
        """The sides of `m`; `offsets` and `nowhere` as in `slots`."""
        rows, cols = (slots(d, axes, offsets, nowhere) for d in (m.row, m.col))
        silent = (len(rows) < m.rows and m.rows > SILENT) or (
            len(cols) < m.cols and m.cols > SILENT
        )
        some = bool((rows != nowhere).any() or (cols != nowhere).any())
        return cls(rows, cols, m.role in MATRICES and some and not silent)


def shares(sides: Sequence[Sides], nowhere: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weight of each position's message to each of its units: a mean over positions and tensors."""

    def of(tables: list[torch.Tensor], speak: list[bool]) -> list[torch.Tensor]:
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
    return of([s.rows for s in sides], speak), of([s.cols for s in sides], speak)


def pack(
    matrices: Sequence[Matrix],
    sides: Sequence[Sides],
    nowhere: int,
    *,
    tile: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[Block, ...]:
    """All matrices as blocks of at most `tile` entries; a single row may exceed it.

    Args:
        matrices: the matrices.
        sides: the slots of each.
        nowhere: the slot that stands for no unit.
        tile: number of weight entries handled at once.
        dtype: of the message weights.
        device: where the tables live.
    """
    row_share, col_share = shares(sides, nowhere)
    return tuple(
        _block(group, matrices, sides, row_share, col_share, nowhere, dtype, device)
        for group in _packed(matrices, sides, tile)
    )


def _packed(matrices: Sequence[Matrix], sides: Sequence[Sides], tile: int) -> list[list[Tile]]:
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
    matrices: Sequence[Matrix],
    sides: Sequence[Sides],
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
