"""Scales of norms go into the weights beside them, and shifts where there is room for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.symmetries.shifts import way_of
from tests.graphs.symmetries.networks import (
    FEATURES,
    Bottleneck,
    OffsetNorm,
    Stream,
    images,
    lively,
    tokens,
)


def folded(model, axis="embed.out"):
    net = trace(lively(model), tokens())
    return net, net.fold_norms(axis)


def test_scales_become_one():
    net, after = folded(Stream(nn.RMSNorm))
    value = after.tensors["norm.weight"].value
    torch.testing.assert_close(value, torch.ones_like(value))
    scale = net.tensors["norm.weight"].value
    expected = net.tensors["up.weight"].value * scale
    torch.testing.assert_close(after.tensors["up.weight"].value, expected)
    assert after.symmetry("embed.out").ready


def test_a_stored_offset_is_respected():
    _, after = folded(Stream(OffsetNorm))
    assert not after.tensors["norm.weight"].value.any()


def test_shifts_go_into_biases_where_all_readers_have_one():
    net, after = folded(Stream())
    assert not after.tensors["norm.bias"].value.any()
    shift, weight = net.tensors["norm.bias"].value, net.tensors["up.weight"].value
    expected = net.tensors["up.bias"].value + weight @ shift
    torch.testing.assert_close(after.tensors["up.bias"].value, expected)


@pytest.mark.parametrize("model", [Stream(bias=False), Stream(mask=True)])
def test_shifts_are_divided_by_the_scale_elsewhere(model):
    net, after = folded(model)
    expected = net.tensors["norm.bias"].value / net.tensors["norm.weight"].value
    torch.testing.assert_close(after.tensors["norm.bias"].value, expected)


def test_a_shift_without_room_blocks():
    model = lively(Stream())
    with torch.no_grad():
        model.last.weight[2] = 1e-9
    found = trace(model, tokens()).symmetry("embed.out")
    assert found.blocked == (
        "the shift last.bias has nowhere to go: head.weight has no bias for it, and last.weight "
        "is too small at 1 units to divide by"
    )
    with torch.no_grad():
        model.last.bias[2] = 0
    net = trace(model, tokens())
    assert way_of(net, net.symmetry("embed.out").folds[1]) == "divided"
    after = net.fold_norms("embed.out").to_model()
    torch.testing.assert_close(after(*tokens()), model(*tokens()), rtol=1e-10, atol=1e-10)


def test_batch_norms_go_into_the_weights_before_them():
    model = lively(Bottleneck())
    net = trace(model, images())
    after = net.fold_norms("stem.0.out")
    for name in ("stem.1", "thin.1"):
        assert not after.tensors[f"{name}.running_mean"].value.any()
        ones = torch.ones(FEATURES, dtype=torch.float64)
        torch.testing.assert_close(after.tensors[f"{name}.running_var"].value, ones)
        torch.testing.assert_close(after.tensors[f"{name}.weight"].value, ones)
    back = after.to_model()
    torch.testing.assert_close(back(*images()), model(*images()), rtol=1e-10, atol=1e-10)


class TwoReaders(nn.Module):
    """Two norms that share their scale, each read by a weight of its own."""

    def __init__(self, *, other_shift: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.a, self.b = nn.LayerNorm(6), nn.LayerNorm(6)
        self.b.weight = self.a.weight
        if not other_shift:
            self.b.bias = self.a.bias
        self.up, self.down = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = self.first(x)
        x = x + self.down(torch.tanh(self.up(self.a(x))))
        return self.last(self.b(x))


def test_norms_that_share_a_scale_are_folded_together():
    inputs = (torch.randn(4, 3, dtype=torch.float64),)
    model = lively(TwoReaders(other_shift=False))
    net = trace(model, inputs)
    (fold,) = net.symmetry("first.out").folds
    assert {w.tensor for w in fold.weights} == {"up.weight", "last.weight"}
    after = net.fold_norms("first.out").to_model()
    torch.testing.assert_close(after(*inputs), model(*inputs), rtol=1e-10, atol=1e-10)
    apart = trace(lively(TwoReaders(other_shift=True)), inputs).symmetry("first.out")
    assert apart.blocked == "a.weight is shared by norms with other shifts or statistics"


class Subtracted(nn.Module):
    """A norm spelled out, whose shift is subtracted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.scale, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(6))

    def forward(self, x):
        x = self.first(x)
        return self.last(
            x * torch.rsqrt(x.square().mean(-1, keepdim=True)) * self.scale - self.shift
        )


def test_a_shift_that_is_subtracted_is_not_taken_for_one_that_is_added():
    inputs = (torch.randn(4, 3, dtype=torch.float64),)
    net = trace(lively(Subtracted()), inputs)
    axis = net.tensors["scale"].axes_made[0]
    assert "scale differs from unit to unit" in net.symmetry(axis).blocked
