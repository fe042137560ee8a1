"""Groups and blocks lie along the input channels of one tap, not across taps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from pruners.budgets import maskable


@pytest.mark.parametrize(
    ("pattern", "takes"), [("2:4", False), ("1:3", True), ("column:4", False), ("block:2x3", True)]
)
def test_a_kernel_is_divided_by_its_channels(pattern, takes):
    model = nn.Sequential(nn.Conv2d(3, 8, 4), nn.ReLU(), nn.Conv2d(8, 4, 3))
    found = maskable(trace(model, (torch.randn(1, 3, 9, 9),)), pattern)
    assert (found["0.weight"] is None) == takes
    assert (found["2.weight"] is None) == (pattern in ("2:4", "column:4"))
