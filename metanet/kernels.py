"""Coordinates of kernel taps, so that one set of weights serves every kernel size."""

from __future__ import annotations

import torch
from torch import nn

DIMENSIONS = 3


def tap_coordinates(taps: tuple[int, ...]) -> torch.Tensor:
    """Coordinates of the taps of a kernel in [-1, 1], the centre at 0.

    Args:
        taps: sizes of the kernel dimensions, e.g. (3, 3); () is a single tap.

    Returns:
        float64 (prod(taps), 3): kernels of fewer than three dimensions fill the last columns,
        leading dimensions beyond three are merged.
    """
    merged = len(taps) - DIMENSIONS + 1
    if merged > 1:
        taps = (int(torch.tensor(taps[:merged]).prod()), *taps[merged:])
    lines = [
        torch.linspace(-1, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1).double()
        for n in (1,) * (DIMENSIONS - len(taps)) + tuple(taps)
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).reshape(-1, DIMENSIONS)


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
