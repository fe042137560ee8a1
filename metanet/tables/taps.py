"""Coordinates of kernel taps, so that one set of weights serves every kernel size."""

from __future__ import annotations

import torch

DIMENSIONS = 3
"""Coordinates of a tap."""


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
