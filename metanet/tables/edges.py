"""A network as an explicit graph: a node per unit, an edge per weight entry between two units."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphs import Network
from metanet.tables.layout import Layout
from metanet.tables.matrices import MATRICES, Matrix, slots


@dataclass(frozen=True)
class EdgeList:
    """Edges of every weight matrix, from the consuming to the producing unit.

    A position of a tensor that belongs to several axes (head x feature) gives one edge for every
    pair of a row unit and a column unit; `pair` says which entry of which matrix they carry. The
    node one past the last unit stands for positions without units.

    Args:
        matrices: of role weight or embedding, in the order of their pairs.
        index: int64 (2, E), source (column unit) and target (row unit).
        pair: int64 (E,), the pair of positions each edge carries; pairs are numbered row-major,
            matrix after matrix.
        copies: (pairs,) number of edges of each pair.
        places: for each matrix, where its taps go in a square kernel.
    """

    matrices: tuple[Matrix, ...]
    index: torch.Tensor
    pair: torch.Tensor
    copies: torch.Tensor
    places: tuple[torch.Tensor, ...]

    def read(self, net: Network, kernel: int, like: torch.Tensor) -> torch.Tensor:
        """Entries of all pairs, kernels centred in zeros: (pairs, kernel^2)."""
        parts = []
        for m, place in zip(self.matrices, self.places, strict=True):
            value = net.tensors[m.name].value.to(like.device, like.dtype)
            part = like.new_zeros(m.rows * m.cols, kernel**2)
            parts.append(part.index_copy(1, place, m.read(value).flatten(1).T))
        return torch.cat(parts) if parts else like.new_zeros(0, kernel**2)

    def write(self, table: torch.Tensor) -> dict[str, torch.Tensor]:
        """(pairs, kernel^2) -> tensor name -> tensor; the inverse of `read`, padding dropped."""
        parts = table.split([m.rows * m.cols for m in self.matrices])
        return {
            m.name: m.write(part[:, place].T)
            for m, part, place in zip(self.matrices, parts, self.places, strict=True)
        }


def list_edges(net: Network, layout: Layout, *, kernel: int, limit: int) -> EdgeList:
    """Every weight entry of `net` as an edge.

    Args:
        net: the network.
        layout: its layout.
        kernel: side of the square that kernels are padded to.
        limit: number of edges that is still affordable.

    Raises:
        ValueError: a kernel is larger than the square, or there are too many edges.
    """
    device = layout.unit_axis.device
    matrices = tuple(m for m in layout.matrices if m.role in MATRICES)
    pairs = sum(m.rows * m.cols for m in matrices)
    if pairs > limit:
        raise ValueError(
            f"the network has more edges than {limit:,} (got {pairs:,}): explicit edge states do "
            "not fit; use the streaming metanetwork or raise 'max_edges'"
        )
    index, pair, first = [], [], 0
    for m in matrices:
        row, col = (slots(d, net.axes, layout.offsets(), layout.units) for d in (m.row, m.col))
        row, col = row.expand(m.rows, -1), col.expand(m.cols, -1)
        numbers = torch.arange(first, first + m.rows * m.cols)
        for i in range(row.shape[1]):
            for j in range(col.shape[1]):
                target = row[:, i].repeat_interleave(m.cols)
                source = col[:, j].repeat(m.rows)
                # A second slot of `nowhere` only fills the table: the position has fewer axes.
                real = ((target != layout.units) | (i == 0)) & ((source != layout.units) | (j == 0))
                index.append(torch.stack([source, target])[:, real])
                pair.append(numbers[real])
        first += m.rows * m.cols
    pairs_of_edges = torch.cat([torch.zeros(0, dtype=torch.int64), *pair])
    return EdgeList(
        matrices=matrices,
        index=torch.cat([torch.zeros(2, 0, dtype=torch.int64), *index], dim=1).to(device),
        pair=pairs_of_edges.to(device),
        copies=torch.bincount(pairs_of_edges, minlength=pairs).to(device),
        places=tuple(_place(m, kernel).to(device) for m in matrices),
    )


def _place(m: Matrix, kernel: int) -> torch.Tensor:
    """Where the taps of `m` lie in a flattened kernel x kernel square, centred."""
    taps = (1,) * (2 - len(m.taps)) + m.taps
    if len(taps) > 2 or max(taps) > kernel:
        raise ValueError(
            f"'{m.name}' has a kernel of {m.taps}, but this metanetwork pads kernels to "
            f"({kernel}, {kernel}): build it with a larger 'kernel'"
        )
    square = torch.arange(kernel**2).view(kernel, kernel)
    low = [(kernel - n) // 2 for n in taps]
    return square[low[0] : low[0] + taps[0], low[1] : low[1] + taps[1]].reshape(-1)
