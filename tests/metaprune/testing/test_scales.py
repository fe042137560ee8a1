"""The scales of known networks are found, and a wrong one is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.rules import RULES
from metaprune import testing
from metaprune.testing.scales import gauges


def test_scale_gauges_of_known_networks():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    net = trace(model, (torch.randn(2, 4),))
    found = gauges(net)
    assert found["2.out"] == []  # not homogeneous
    (only,) = found["0.out"]
    degrees = {("0.weight", 0): 1.0, ("0.bias", 0): 1.0, ("2.weight", 1): -1.0}
    sign = only["0.weight", 0]
    assert {place: sign * degree for place, degree in only.items()} == pytest.approx(degrees)


def test_scale_gauges_of_a_residual_stream():
    class Stream(nn.Module):
        def __init__(self, norm: bool) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.norm = nn.LayerNorm(6) if norm else nn.Identity()

        def forward(self, x):
            x = self.a(x)
            return self.c(x + torch.relu(self.b(self.norm(x))))

    inputs = (torch.randn(2, 4),)
    free, bound = (gauges(trace(Stream(norm), inputs)) for norm in (False, True))
    (stream,) = free["a.out"]
    assert {name for name, _ in stream} == {"a.weight", "a.bias", "b.weight", "b.bias", "c.weight"}
    (behind,) = bound["a.out"]  # between the norm and what reads it
    assert {name for name, _ in behind} == {"norm.weight", "norm.bias", "b.weight"}
    for norm in (False, True):
        testing.assert_scale_invariant(Stream(norm), inputs)


def test_scale_law_fails_where_an_activation_is_called_homogeneous():
    wrong = {"tanh": replace(RULES["tanh"], homogeneous=True)}
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    with RULES.scoped(wrong), pytest.raises(AssertionError, match=r"scaling 0\.out"):
        testing.assert_scale_invariant(model, (torch.randn(2, 4),))
