"""One layer of message passing between the units of the axes, through the weight matrices.

With x = w / sigma the normalised entries of a tensor, m a head and taps t at coordinates p_t,

    phi_m(i, j)  = sum_t  a_m(p_t) x_ijt                                   signed heads
                 | sum_t  b_m(p_t) |x_ijt| + c_m(p_t) x_ijt^2 / (1 + x_ijt^2)   unsigned heads
    to unit i    : mean over tensors of  gate(token) * sum_j phi_m(i, j) V h_j / norm
    to unit j    : mean over tensors of  gate(token) * sum_i phi_m(i, j) V' h_i / norm
    h           += MLP(LayerNorm([h, from columns, from rows]))
    token       += MLP(LayerNorm([token, mean over rows, mean over columns]))

where norm is the number of terms for unsigned heads and its square root for signed ones. States
live on units and tensors only: a layer costs a few matrix products per tensor and no memory per
weight entry beyond one block.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from metanet.layers.kernels import TapEncoder
from metanet.layers.registry import LAYERS
from metanet.reading.values import Reader
from metanet.tables.layout import Layout
from metanet.tables.tiles import Block


class Residual(nn.Module):
    """state + MLP(LayerNorm([state, *others])). Shapes: (n, d), (n, e) -> (n, d)."""

    def __init__(self, hidden: int, others: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden + others)
        self.inner = nn.Linear(hidden + others, 2 * hidden)
        self.outer = nn.Linear(2 * hidden, hidden)

    def forward(self, state: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(n, d) and (n, e) -> (n, d)."""
        out = self.norm(torch.cat([state, other], dim=1))
        result: torch.Tensor = state + self.outer(F.silu(self.inner(out)))
        return result


@LAYERS.register("messages")
class MessageLayer(nn.Module):
    """The layer of this module's equation.

    Args:
        hidden: width d of the states.
        heads: number M of functions of the entries, half of them signed; divides `hidden`.
        checkpoint_above: blocks of more entries than this are recomputed in the backward pass.

    Shapes: units (N, d), tokens (T, d) -> the same.
    """

    def __init__(self, *, hidden: int, heads: int, checkpoint_above: int) -> None:
        super().__init__()
        self.heads = heads
        self.checkpoint_above = checkpoint_above
        self.taps = TapEncoder(3 * heads // 2)
        self.send = nn.Linear(hidden, 2 * hidden)
        self.gate = nn.Linear(hidden, 2 * hidden)
        self.units = Residual(hidden, 2 * hidden)
        self.tokens = Residual(hidden, 2 * hidden)

    def forward(
        self,
        units: torch.Tensor,
        tokens: torch.Tensor,
        layout: Layout,
        reader: Reader,
        sigma: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, d), (T, d) -> (N, d), (T, d); `sigma` (T,) normalises the tensors."""
        # The extra row of zeros is the state of positions without units.
        sent = self.send(F.pad(units, (0, 0, 0, 1)))
        gates = (1 + self.gate(tokens)) * self._norms(layout.lengths, units.shape[1])
        to_rows, to_cols = (units.new_zeros(len(sent), units.shape[1]) for _ in range(2))
        to_tokens = torch.zeros_like(gates)
        coefficients = {t: self._coefficients(c) for t, c in layout.coordinates.items()}
        for index, block in enumerate(layout.blocks):
            if not block.messages:
                continue
            arguments = (sent, gates[block.tensor], coefficients[block.taps])
            if torch.is_grad_enabled() and block.entries > self.checkpoint_above:

                def recomputed(
                    *args: torch.Tensor, index: int = index, block: Block = block
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
                    return self._block(block, reader.bases(index, sigma), *args)

                rows, cols, sums = checkpoint(
                    recomputed, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                rows, cols, sums = self._block(block, reader.bases(index, sigma), *arguments)
            to_rows.index_add_(0, block.rows.reshape(-1), rows)
            to_cols.index_add_(0, block.cols.reshape(-1), cols)
            to_tokens.index_add_(0, block.tensor, sums)
        to_tokens = to_tokens / layout.lengths.repeat_interleave(units.shape[1], dim=1)
        received = torch.cat([to_rows, to_cols], dim=1)[:-1]
        return self.units(units, received), self.tokens(tokens, to_tokens)

    def _norms(self, lengths: torch.Tensor, hidden: int) -> torch.Tensor:
        """Rows and columns (T, 2) -> (T, 2 d), 1 / norm of the messages to rows and to columns."""
        terms = lengths.flip(1)  # a row hears every column
        both = torch.stack([terms.rsqrt(), 1 / terms], dim=2)  # (T, 2, signed or not)
        return both.flatten(1).repeat_interleave(hidden // 2, dim=1)

    def _coefficients(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(taps, 3) -> (M, 3 * taps): rows are heads, columns the bases of `Reader.bases`."""
        taps, half = len(coordinates), self.heads // 2
        signed, absolute, square = self.taps(coordinates).T.split(half)  # each (M / 2, taps)
        none = torch.zeros_like(signed)
        first = torch.cat([signed / taps**0.5, none, none], dim=1)
        second = torch.cat([none, absolute / taps, square / taps], dim=1)
        return torch.cat([first, second])

    def _block(
        self,
        block: Block,
        bases: torch.Tensor,
        sent: torch.Tensor,
        gates: torch.Tensor,
        coefficients: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Messages of one block.

        Args:
            block: the block.
            bases: (3, taps, B, R, C).
            sent: (N + 1, 2 d), what units send to rows and to columns.
            gates: (B, 2 d), with the norms.
            coefficients: (M, 3 * taps).

        Returns:
            (B * R * A, d) and (B * C * A', d), weighted for `index_add` into the units, and
            (B, 2 d), the sums of the messages of the tensors.
        """
        b, _, r, c = block.shape
        d = sent.shape[1] // 2
        phi = (coefficients @ bases.flatten(2).flatten(0, 1)).view(self.heads, b, r, c)
        to_rows = self._product(phi, gather(sent[:, :d], block.cols), gates[:, :d])
        to_cols = self._product(phi.mT, gather(sent[:, d:], block.rows), gates[:, d:])
        sums = torch.cat([to_rows.sum(1), to_cols.sum(1)], dim=1)
        return _scattered(to_rows, block.row_weight), _scattered(to_cols, block.col_weight), sums

    def _product(
        self, phi: torch.Tensor, states: torch.Tensor, gates: torch.Tensor
    ) -> torch.Tensor:
        """Functions (M, B, P, Q), states (B, Q, d) and gates (B, d) -> (B, P, d).

        Head m acts on its share of the channels.
        """
        b, q, d = states.shape
        split = states.view(b, q, self.heads, -1).permute(2, 0, 1, 3)  # (M, B, Q, d / M)
        return (phi @ split).permute(1, 2, 0, 3).reshape(b, -1, d) * gates[:, None]


def gather(states: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """(N, d) at slots (B, P, A) -> (B, P, d), the sum over the A units of a position."""
    found = states.index_select(0, slots.reshape(-1)).view(*slots.shape, -1)
    return found[:, :, 0] if slots.shape[2] == 1 else found.sum(2)


def _scattered(messages: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B, P, d) for the A units of each position, times weight (B, P, A) -> (B * P * A, d)."""
    return (messages[:, :, None] * weight[..., None]).flatten(0, 2)
