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
