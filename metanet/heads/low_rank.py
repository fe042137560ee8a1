"""The weight head: a bounded, low-rank change of every tensor, decoded from unit states.

    w' = w + eps * w * tanh(a) + eps * sigma * tanh(b)
    a_ijt = sum_r U_ir V_jr k_r(p_t),    b_ijt = sum_r P_ir Q_jr k'_r(p_t)

i and j are the row and column positions, p_t the coordinates of tap t, sigma the root mean square
of the tensor. The last layers of U and P start at zero, so w' == w exactly until training.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphs import Network
from metanet.heads.registry import WEIGHT_HEADS
from metanet.layers.kernels import TapEncoder
from metanet.layers.messages import gather
from metanet.tables.layout import Layout
from metanet.tables.tiles import Block


@WEIGHT_HEADS.register("low-rank")
class LowRankChange(nn.Module):
    """The head of this module's equation.

    Args:
        hidden: width d of unit states and tokens.
        rank: r, of the change of each tensor.
        bound: eps; an entry changes by at most eps * (|w| + sigma).
        checkpoint_above: blocks of more entries than this are recomputed in the backward pass.
    """

    def __init__(self, *, hidden: int, rank: int, bound: float, checkpoint_above: int) -> None:
        super().__init__()
        self.rank = rank
        self.bound = bound
        self.checkpoint_above = checkpoint_above
        self.rows = nn.Linear(hidden, 2 * rank)  # U and P
        self.cols = nn.Linear(hidden, 2 * rank)  # V and Q
        self.tensors = nn.Linear(hidden, 4 * rank)
        self.taps = TapEncoder(2 * rank)
        for parameter in self.rows.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        units: torch.Tensor,
        tokens: torch.Tensor,
        net: Network,
        layout: Layout,
        sigma: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Units (N, d), tokens (T, d), sigma (T,) -> tensor name -> new value, like the old."""
        padded = F.pad(units, (0, 0, 0, 1))
        rows, cols = self.rows(padded), self.cols(padded) / self.rank**0.5
        row_gates, col_gates = (1 + self.tensors(tokens)).chunk(2, dim=1)
        taps = {shape: 1 + self.taps(c) for shape, c in layout.coordinates.items()}
        parts: dict[int, dict[int, torch.Tensor]] = {}  # tensor -> first row -> entries
        out: dict[int, torch.Tensor] = {}
        for block in layout.blocks:
            if not block.changed:
                continue
            values = [net.tensors[layout.matrices[t.tensor].name].value for t in block.tiles]
            which = block.tensor
            arguments = (
                rows,
                cols,
                row_gates[which],
                col_gates[which],
                taps[block.taps],
                sigma,
                *values,
            )
            if torch.is_grad_enabled() and block.entries > self.checkpoint_above:
                changed = checkpoint(
                    self._block,
                    layout,
                    block,
                    *arguments,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                changed = self._block(layout, block, *arguments)
            for tile, part in zip(block.tiles, changed, strict=True):
                pieces = parts.setdefault(tile.tensor, {})
                pieces[tile.start] = part
                m = layout.matrices[tile.tensor]
                if sum(piece.shape[1] for piece in pieces.values()) == m.rows:
                    out[tile.tensor] = m.write(_joined(parts.pop(tile.tensor)))
        return {layout.matrices[tensor].name: out[tensor] for tensor in sorted(out)}

    def _block(
        self,
        layout: Layout,
        block: Block,
        rows: torch.Tensor,
        cols: torch.Tensor,
        row_gates: torch.Tensor,
        col_gates: torch.Tensor,
        taps: torch.Tensor,
        sigma: torch.Tensor,
        *values: torch.Tensor,
    ) -> list[torch.Tensor]:
        """New (taps, rows, cols) entries of each tile of a block."""
        b, k, r, c = block.shape
        u = gather(rows, block.rows) * row_gates[:, None]  # (B, R, 2 r)
        v = gather(cols, block.cols) * col_gates[:, None]  # (B, C, 2 r)
        u = u.view(b, 1, r, 2, self.rank) * taps.view(1, k, 1, 2, self.rank)
        u = u.permute(0, 3, 1, 2, 4).reshape(b, 2, k * r, self.rank)
        v = v.view(b, c, 2, self.rank).permute(0, 2, 3, 1)  # (B, 2, r, C)
        scales = sigma.unbind()
        change = (u @ v).tanh_().view(b, 2, k, r, c)
        out = []
        for (gain, shift), tile, value in zip(change, block.tiles, values, strict=True):
            old = layout.matrices[tile.tensor].read(value)
            if old.shape[1] != tile.stop - tile.start:
                old = old[:, tile.start : tile.stop]
            if gain.shape != old.shape:
                gain, shift = (x[:, : old.shape[1], : old.shape[2]] for x in (gain, shift))
            wide = torch.promote_types(old.dtype, gain.dtype)
            gain, shift = gain.to(old.device, wide), shift.to(old.device, wide)
            scale = scales[tile.tensor].to(old.device, wide)
            start = old.to(wide)
            new = torch.addcmul(start, start, gain, value=self.bound)
            out.append(torch.addcmul(new, scale, shift, value=self.bound).to(old.dtype))
        return out


def _joined(pieces: dict[int, torch.Tensor]) -> torch.Tensor:
    """First row -> (taps, rows, columns), put together in the order of the rows."""
    if len(pieces) == 1:
        return next(iter(pieces.values()))
    return torch.cat([piece for _, piece in sorted(pieces.items())], dim=1)
