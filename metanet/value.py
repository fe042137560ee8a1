r"""A metanetwork that foresees what a budget does: expected losses, corrected along the graph.

Expected losses of axes add up where little goes. Where much goes an axis may cost more or less,
depending on what it is, what feeds it and what reads it:

    log D(w) = log Σ_a exp(p log L_a(w_a) + tanh(c_a) + v · d_a(w_a)),
    c_a = u · x_a + s · mean_{b → a} x_b + t · mean_{a → b} x_b

with L_a the expected loss of axis a at its width w_a, x_a facts of it, and d_a six functions of how
much of it goes. p = e^{p'}, and all parameters are 0 at first: D is the sum. There are few of them,
and several members that learn from different draws; where they disagree, nothing is known.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from metanet.registry import METANETWORKS

GONE = 6
"""Functions of how much of an axis goes."""

FARTHEST = 3.0
"""Facts are cut off so many standard deviations from the mean of those that were learned from: what
is foreign says no more than the strangest that is known."""

LEAST_KEPT = 0.03
"""Shares below count as this where their logarithm is taken."""


@METANETWORKS.register("value")
class ValueNetwork(nn.Module):
    """The value of this module's equation, for budgets of widths.

    Args:
        facts: numbers that are known of every axis, F; there are 19 (`pruners.curves.FACTS`).
        members: that learn from different draws, M.

    Shapes: see `forward`.
    """

    foresees = "widths"
    """What it foresees the damage of; metanetworks that advise have no such attribute."""

    def __init__(self, *, facts: int = 19, members: int = 4) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"name": "value", "facts": facts, "members": members}
        self.register_buffer("center", torch.zeros(facts, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(facts, dtype=torch.float64))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(members, *shape, dtype=torch.float64))

        # The facts, the share that stays of the whole network, and a constant.
        self.own, self.before, self.behind = (zeros(facts + 2) for _ in range(3))
        self.gone, self.power = zeros(GONE), zeros()

    def standardise(self, table: torch.Tensor) -> None:
        """Take mean and standard deviation of facts (N, F) as those that facts are measured by."""
        self.center.copy_(table.mean(0))
        self.scale.copy_(table.std(0) + 1e-6)

    def forward(
        self,
        table: torch.Tensor,
        reads: torch.Tensor,
        share: float,
        losses: torch.Tensor,
        kept: torch.Tensor,
        errors: torch.Tensor,
    ) -> torch.Tensor:
        """Logarithms of the damage of budgets.

        Args:
            table: facts of axes, (L, F).
            reads: whether what reads the first axis writes the second, (L, L), bool.
            share: of the whole cost that stays.
            losses: expected loss of every axis under each budget, (K, L), positive.
            kept: (units that stay, share of units that stays), (2, K, L).
            errors: of the readers of every axis, as shares of their outputs, mean and largest,
                (2, K, L).

        Returns:
            (M, K), float64.
        """
        facts = ((table - self.center) / self.scale).clamp(-FARTHEST, FARTHEST)
        told = facts.new_tensor([share]).log().expand(len(facts), 1)
        facts = torch.cat([facts, told, torch.ones_like(told)], 1)  # (L, F + 2)
        joined = reads.to(facts)
        after = joined / joined.sum(1, keepdim=True).clamp_min(1)
        ahead = joined.T / joined.T.sum(1, keepdim=True).clamp_min(1)
        own = facts @ self.own.T + ahead @ facts @ self.before.T + after @ facts @ self.behind.T
        units, stays = kept.unbind()
        goes = 1 - stays
        shape = torch.stack(
            [
                2 * goes,
                (units <= 1).to(goes),
                2 * goes.square(),
                2 * errors[0],
                errors[1],
                -0.5 * stays.clamp_min(LEAST_KEPT).log(),
            ],
            dim=-1,
        )  # (K, L, GONE)
        each = losses.log()[None] * self.power.exp()[:, None, None]
        each = each + own.T.tanh()[:, None] + (shape @ self.gone.T).movedim(-1, 0)
        return each.logsumexp(-1)
