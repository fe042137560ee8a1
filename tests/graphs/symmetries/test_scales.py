"""The scales of known networks are found, applied, and refused where they are none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.symmetries.scales import gauges
from metaprune import testing


def test_scale_gauges_of_known_networks():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    net = trace(model, (torch.randn(2, 4),))
    found = gauges(net)
    assert found["2.out"] == []  # not homogeneous
    (only,) = found["0.out"]
    degrees = {("0.weight", 0): 1.0, ("0.bias", 0): 1.0, ("2.weight", 1): -1.0}
    assert only.degrees == pytest.approx(degrees)
    assert not only.signed


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
    assert {name for name, _ in stream.degrees} == {
        "a.weight",
        "a.bias",
        "b.weight",
        "b.bias",
        "c.weight",
    }
    (behind,) = bound["a.out"]  # between the norm and what reads it
    assert {name for name, _ in behind.degrees} == {"norm.weight", "norm.bias", "b.weight"}
    for norm in (False, True):
        testing.assert_scale_invariant(Stream(norm), inputs)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def test_the_ungated_half_takes_any_scale_but_zero():
    model, x = Gated().double(), torch.randn(5, 4, dtype=torch.float64)
    net = trace(model, (x,))
    scales = torch.tensor([1.5, -2.0, 0.25, -0.5, 3.0, -1.0])
    moved = net.rescale("gate.out", scales)
    assert not torch.equal(moved.tensors["up.weight"].value, model.up.weight)
    assert torch.equal(moved.tensors["gate.weight"].value, model.gate.weight)
    torch.testing.assert_close(moved.to_model()(x), model(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="finite and not zero"):
        net.rescale("gate.out", scales.clamp_min(0))
    with pytest.raises(ValueError, match="1 scale gauges"):
        net.rescale("gate.out", scales, gauge=1)


def test_a_rectified_layer_takes_positive_scales():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    net = trace(model, (x,))
    moved = net.rescale("0.out", torch.rand(6) + 0.5)
    torch.testing.assert_close(moved.to_model()(x), model(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="finite and positive"):
        net.rescale("0.out", -torch.ones(6))
    with pytest.raises(ValueError, match="expected 6 scales"):
        net.rescale("0.out", torch.ones(5))
