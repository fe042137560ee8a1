"""Weight values, block by block, as the metanetwork sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from metanet.layout import MATRICES, Layout

if TYPE_CHECKING:
    from graphs import Network, Tensor

GROUPS = ("produce", "consume", "scale", "bias", "running_mean", "running_var")
"""Where the entries that meet in a unit come from."""
CLAMP = 8.0
"""Normalised entries are clamped to this many standard deviations."""
BASES = 3


class Reader:
    """Reads the blocks of one network in the metanetwork's precision; values are constants to it.

    Blocks are kept in memory when all of them together fit in one tile, and read again at every
    use otherwise.
    """

    def __init__(self, net: Network, layout: Layout, like: torch.Tensor, tile: int) -> None:
        self._tensors: Mapping[str, Tensor] = net.tensors
        self._layout = layout
        self._like = like
        self._keep = sum(b.entries for b in layout.blocks) <= tile
        self._values: dict[int, torch.Tensor] = {}
        self._bases: dict[int, torch.Tensor] = {}

    def values(self, index: int) -> torch.Tensor:
        """Entries of block `index`: (B, taps, R, C), zero where padded."""
        if index in self._values:
            return self._values[index]
        block = self._layout.blocks[index]
        out = self._like.new_zeros(block.shape)
        for place, tile in zip(out, block.tiles, strict=True):
            matrix = self._layout.matrices[tile.tensor]
            value = matrix.read(self._tensors[matrix.name].value.detach())
            part = value[:, tile.start : tile.stop]
            place[:, : part.shape[1], : part.shape[2]].copy_(part)
        if self._keep:
            self._values[index] = out
        return out

    def bases(self, index: int, sigma: torch.Tensor) -> torch.Tensor:
        """Elementwise functions of the normalised entries x = w / sigma of block `index`.

        Args:
            index: of the block.
            sigma: (tensors,) root mean square of each tensor.

        Returns:
            (B, 3 * taps, R, C): x, |x| and x^2 / (1 + x^2); zero where padded.
        """
        if index in self._bases:
            return self._bases[index]
        scale = sigma[self._layout.blocks[index].tensor].reciprocal().nan_to_num(0, 0, 0)
        x = (self.values(index) * scale[:, None, None, None]).nan_to_num(0).clamp(-CLAMP, CLAMP)
        square = x.square()
        out = torch.cat([x, x.abs(), square / (1 + square)], dim=1)
        if self._keep:
            self._bases[index] = out
        return out


@torch.no_grad()
def statistics(reader: Reader, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over all values: what meets in each unit, and each tensor as a whole.

    Returns:
        units: float64 (units, groups, 4): sum, sum of absolute values, sum of squares and number
            of the entries of each of `GROUPS` that belong to the unit.
        tensors: float64 (tensors, 4): likewise over the whole tensor.

    Raises:
        ValueError: a tensor holds NaN or infinite values.
    """
    device = layout.unit_axis.device
    units = torch.zeros((layout.units + 1) * len(GROUPS), 4, dtype=torch.float64, device=device)
    tensors = units.new_zeros(len(layout.matrices), 4)
    for index, block in enumerate(layout.blocks):
        x = reader.values(index)
        rows, cols = block.extent.unbind(1)
        row_sums = _sums(x, 3, cols * block.shape[1])
        tensors.index_add_(0, block.tensor, (row_sums * _mask(rows, x.shape[2])).sum(1))
        col_sums = _sums(x, 2, rows * block.shape[1])
        for side, table, sums in (
            ("produce", block.rows, row_sums),
            ("consume", block.cols, col_sums),
        ):
            roles = [layout.matrices[t.tensor].role for t in block.tiles]
            groups = [GROUPS.index(side if role in MATRICES else role) for role in roles]
            place = table * len(GROUPS) + torch.tensor(groups, device=device)[:, None, None]
            repeated = sums[:, :, None].expand(*place.shape, 4)
            units.index_add_(0, place.reshape(-1), repeated.reshape(-1, 4))
    bad = (~tensors.isfinite()).any(1).nonzero()
    if len(bad):
        name = layout.matrices[int(bad[0])].name
        raise ValueError(f"tensor '{name}' holds NaN or infinite values: repair the checkpoint")
    return units.view(-1, len(GROUPS), 4)[:-1], tensors


def _sums(x: torch.Tensor, axis: int, entries: torch.Tensor) -> torch.Tensor:
    """Float64 (B, positions, 4): sums over taps and `axis`, and the number of entries."""
    norm, wide = torch.linalg.vector_norm, torch.float64
    parts = [
        x.sum((1, axis), dtype=wide),
        norm(x, 1, dim=(1, axis), dtype=wide),
        norm(x, 2, dim=(1, axis), dtype=wide).square(),
    ]
    return torch.stack([*parts, entries[:, None].to(wide).expand_as(parts[0])], dim=-1)


def _mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """(B,) lengths -> (B, size, 1), true before the length."""
    return (torch.arange(size, device=lengths.device) < lengths[:, None])[:, :, None]
