"""Taps have coordinates around their centre."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from metanet.tables.taps import tap_coordinates


def test_taps_have_coordinates_around_their_centre():
    assert torch.equal(tap_coordinates(()), torch.zeros(1, 3).double())
    grid = tap_coordinates((3, 3))
    assert torch.equal(grid[4], torch.zeros(3).double())
    assert torch.equal(grid[0], torch.tensor([0.0, -1, -1]).double())
    assert torch.equal(grid, -grid.flip(0))
    assert tap_coordinates((2, 3, 3, 3)).shape == (54, 3)
    linear = F.normalize(tap_coordinates((5,))[:, 2], dim=0)
    assert linear.diff().min() > 0
