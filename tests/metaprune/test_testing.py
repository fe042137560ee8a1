"""The public laws hold for sound networks, and fail for broken ones."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import nn

from graphs import Fixed, Network, trace
from metanet import MetaNetwork
from metaprune import testing


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 5),
    ).eval()


def image() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def double() -> tuple[Network, tuple[torch.Tensor]]:
    inputs = (image()[0].double(),)
    return trace(cnn().double(), inputs), inputs


def with_tensor(net: Network, name: str, **changes: object) -> Network:
    tensors = {**net.tensors, name: replace(net.tensors[name], **changes)}
    return replace(net, tensors=MappingProxyType(tensors))


@pytest.mark.parametrize(
    "law",
    [
        testing.assert_round_trip,
        testing.assert_permutation_invariant,
        testing.assert_lossless,
    ],
)
def test_laws_hold(law):
    law(cnn(), image())
    assert testing.symmetries(trace(cnn(), image())) > 7  # 6! · 8! ≈ 10^7.5


def test_round_trip_fails_on_one_changed_bit():
    model = cnn()
    net = trace(model, image())
    value = net.tensors["3.weight"].value
    broken = net.replace({"3.weight": torch.nextafter(value, value + 1)})
    with pytest.raises(AssertionError, match=r"3\.weight"):
        testing.assert_round_trip(model, image(), net=broken)


def test_round_trip_fails_on_another_training_flag():
    model = cnn()
    net = trace(model, image())
    model.train()
    with pytest.raises(AssertionError, match="training flag"):
        testing.assert_round_trip(model, image(), net=net)


def test_permutation_fails_where_a_coupling_is_missing():
    net, inputs = double()
    consumer = net.tensors["3.weight"]
    dims = (consumer.dims[0], Fixed(6), *consumer.dims[2:])
    broken = with_tensor(net, "3.weight", dims=dims)
    with pytest.raises(AssertionError, match=r"permuting 0\.out changed the output"):
        testing.assert_permutation_invariant(broken, inputs)


def test_permutation_fails_where_a_frozen_axis_is_declared_free():
    net, inputs = double()
    frozen = next(axis for axis in net.axes.values() if axis.frozen and axis.size > 1)
    axes = {**net.axes, frozen.name: replace(frozen, frozen=None)}
    broken = replace(net, axes=MappingProxyType(axes))
    with pytest.raises(AssertionError, match=f"permuting {frozen.name}"):
        testing.assert_permutation_invariant(broken, inputs)


def test_lossless_fails_where_a_dead_unit_is_not_dead():
    net, inputs = double()
    # A bias that is not known to produce the units stays alive when the units die.
    broken = with_tensor(net, "1.bias", produces=(False,))
    live = broken.replace({"1.bias": torch.ones_like(net.tensors["1.bias"].value)})
    with pytest.raises(AssertionError, match=r"removing dead units of 0\.out"):
        testing.assert_lossless(live, inputs)


def test_lossless_fails_where_sigmoid_is_called_exact():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3)).double()
    inputs = (torch.randn(2, 4, dtype=torch.float64),)
    net = trace(model, inputs)
    testing.assert_lossless(net, inputs)  # the axis is bias-fold, so nothing is claimed
    axes = {name: replace(axis, exactness="exact") for name, axis in net.axes.items()}
    with pytest.raises(AssertionError, match="removing dead units"):
        testing.assert_lossless(replace(net, axes=MappingProxyType(axes)), inputs)


def perturbed_metanet() -> MetaNetwork:
    torch.manual_seed(0)
    meta = MetaNetwork(hidden=8).double()
    with torch.no_grad():
        for parameter in meta.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    return meta.eval()


def test_metanetwork_is_equivariant():
    testing.assert_equivariant(perturbed_metanet(), cnn(), image())


def test_equivariance_fails_on_a_metanetwork_that_sees_positions():
    meta = perturbed_metanet()

    def positional(net, evidence, target):
        said = meta(net, evidence, target)
        logits = {n: v + torch.arange(v.numel()) for n, v in said.unit_logits.items()}
        return replace(said, unit_logits=logits)

    with pytest.raises(AssertionError, match="unit logits"):
        testing.assert_equivariant(positional, cnn(), image())


def test_equivariance_fails_on_a_metanetwork_that_sorts_weights():
    def sorting(net, evidence, target):
        said = perturbed_metanet()(net, evidence, target)
        values = {n: v.flatten().sort().values.reshape(v.shape) for n, v in said.values.items()}
        return replace(said, values=values)

    with pytest.raises(AssertionError, match="values of"):
        testing.assert_equivariant(sorting, cnn(), image())
