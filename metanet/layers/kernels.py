"""Functions of the taps of a kernel, the same for every kernel size."""

from __future__ import annotations

import torch
from torch import nn

from metanet.tables.taps import DIMENSIONS


class TapEncoder(nn.Module):
    """A small network from the coordinates of a tap to `channels` coefficients.

    Shapes: (taps, 3) -> (taps, channels).
    """

    def __init__(self, channels: int, *, hidden: int = 16) -> None:
        super().__init__()
        self.inner = nn.Linear(DIMENSIONS, hidden)
        self.outer = nn.Linear(hidden, channels)

    def forward(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(taps, 3) -> (taps, channels)."""
        out: torch.Tensor = self.outer(nn.functional.silu(self.inner(coordinates)))
        return out
