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

from metanet.kernels import TapEncoder
from metanet.layout import Block, Layout
from metanet.reading import Reader


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
        gates = 1 + self.gate(tokens)
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

                rows, cols, means = checkpoint(
                    recomputed, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                rows, cols, means = self._block(block, reader.bases(index, sigma), *arguments)
            to_rows.index_add_(0, block.rows.reshape(-1), rows)
            to_cols.index_add_(0, block.cols.reshape(-1), cols)
            to_tokens.index_add_(0, block.tensor, means)
        received = torch.cat([to_rows, to_cols], dim=1)[:-1]
        return self.units(units, received), self.tokens(tokens, to_tokens)

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
            bases: (B, 3 * taps, R, C).
            sent: (N + 1, 2 d), what units send to rows and to columns.
            gates: (B, 2 d).
            coefficients: (M, 3 * taps).

        Returns:
            (B * R * A, d) and (B * C * A', d), weighted for `index_add` into the units, and
            (B, 2 d), the mean messages of the tensors.
        """
        b, _, r, c = block.shape
        d = sent.shape[1] // 2
        phi = (coefficients @ bases.flatten(2)).view(b, self.heads, r, c)
        rows, cols = block.lengths.unbind(1)
        to_rows = self._product(phi, gather(sent[:, :d], block.cols), cols)
        to_cols = self._product(phi.mT, gather(sent[:, d:], block.rows), rows)
        to_rows, to_cols = to_rows * gates[:, None, :d], to_cols * gates[:, None, d:]
        means = torch.cat([to_rows.sum(1) / rows[:, None], to_cols.sum(1) / cols[:, None]], dim=1)
        return _scattered(to_rows, block.row_weight), _scattered(to_cols, block.col_weight), means

    def _product(
        self, phi: torch.Tensor, states: torch.Tensor, terms: torch.Tensor
    ) -> torch.Tensor:
        """(B, M, P, Q) and (B, Q, d) -> (B, P, d); head m acts on its share of the channels."""
        b, q, d = states.shape
        split = states.view(b, q, self.heads, d // self.heads).transpose(1, 2)  # (B, M, Q, d / M)
        out = phi @ split
        half = self.heads // 2
        norm = torch.stack([terms.rsqrt(), 1 / terms], dim=1).repeat_interleave(half, dim=1)
        return (out * norm[:, :, None, None]).transpose(1, 2).reshape(b, -1, d)


def gather(states: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """(N, d) at slots (B, P, A) -> (B, P, d), the sum over the A units of a position."""
    if slots.shape[2] == 1:
        return states[slots[:, :, 0]]
    return states[slots].sum(2)


def _scattered(messages: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B, P, d) for the A units of each position, times weight (B, P, A) -> (B * P * A, d)."""
    return (messages[:, :, None] * weight[..., None]).flatten(0, 2)
