"""Weight values, block by block, as the metanetwork sees them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from graphs import Network, Tensor
from metanet.tables.layout import Layout
from metanet.tables.matrices import MATRICES

GROUPS = ("produce", "consume", "scale", "bias", "running_mean", "running_var")
"""Where the entries that meet in a unit come from."""
CLAMP = 8.0
"""Normalised entries are clamped to this many standard deviations."""
KEPT = 4
"""Values stay in memory when all blocks together are no larger than this many tiles."""


class Reader:
    """Reads the blocks of one network in the metanetwork's precision; values are constants to it.

    The entries of a small network are kept until the end of the forward pass, those of a large
    one read again at every use.
    """

    def __init__(self, net: Network, layout: Layout, like: torch.Tensor, tile: int) -> None:
        self._tensors: Mapping[str, Tensor] = net.tensors
        self._layout = layout
        self._like = like
        self._keep = sum(b.entries for b in layout.blocks) <= KEPT * tile
        self._values: dict[int, torch.Tensor] = {}
        self._bases: dict[int, torch.Tensor] = {}

    def values(self, index: int) -> torch.Tensor:
        """Entries of block `index`: (taps, B, R, C), zero where padded."""
        if index in self._values:
            return self._values[index]
        block = self._layout.blocks[index]
        b, k, r, c = block.shape
        out = self._like.new_zeros(k, b, r, c)
        for place, tile in zip(out.unbind(1), block.tiles, strict=True):
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
            (3, taps, B, R, C): x, |x| and x^2 / (1 + x^2); zero where padded.
        """
        if index in self._bases:
            return self._bases[index]
        scale = sigma[self._layout.blocks[index].tensor].reciprocal().nan_to_num(0, 0, 0)
        values = self.values(index)
        self._values.pop(index, None)  # not needed again, and overwritten below
        out = values.new_empty(3, *values.shape)
        x, absolute, square = out.unbind(0)
        torch.mul(values, scale[:, None, None], out=x)
        x.nan_to_num_(0).clamp_(-CLAMP, CLAMP)
        torch.abs(x, out=absolute)
        torch.square(x, out=square)
        square.div_(values.copy_(square).add_(1))
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
        x = reader.values(index).double()
        tapped = torch.stack([x.sum(0), x.abs().sum(0), x.square().sum(0)], dim=-1)  # (B, R, C, 3)
        rows, cols = block.extent.unbind(1)
        row_sums = _counted(tapped.sum(2), cols * block.shape[1])
        col_sums = _counted(tapped.sum(1), rows * block.shape[1])
        real = torch.arange(block.shape[2], device=device) < rows[:, None]
        tensors.index_add_(0, block.tensor, (row_sums * real[:, :, None]).sum(1))
        roles = [layout.matrices[t.tensor].role for t in block.tiles]
        for side, table, sums in (
            ("produce", block.rows, row_sums),
            ("consume", block.cols, col_sums),
        ):
            groups = [GROUPS.index(side if role in MATRICES else role) for role in roles]
            place = table * len(GROUPS) + torch.tensor(groups, device=device)[:, None, None]
            repeated = sums[:, :, None].expand(*place.shape, 4)
            units.index_add_(0, place.reshape(-1), repeated.reshape(-1, 4))
    bad = (~tensors.isfinite()).any(1).nonzero()
    if len(bad):
        name = layout.matrices[int(bad[0])].name
        raise ValueError(f"tensor '{name}' holds NaN or infinite values: repair the checkpoint")
    return units.view(-1, len(GROUPS), 4)[:-1], tensors


def _counted(sums: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """(B, positions, 3) and (B,) -> (B, positions, 4): the number of entries as last column."""
    return torch.cat([sums, entries[:, None, None].expand(*sums.shape[:2], 1)], dim=2)
