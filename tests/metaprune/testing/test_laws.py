"""The public laws hold for sound networks; the round trip and equivariance fail for broken ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphs import trace
from metanet import MetaNetwork
from metaprune import testing
from tests.metaprune.testing.subjects import cnn, image


@pytest.mark.parametrize(
    "law",
    [
        testing.assert_round_trip,
        testing.assert_permutation_invariant,
        testing.assert_scale_invariant,
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


def test_round_trip_fails_where_biases_shift_on_write_back():
    model = cnn()
    net = trace(model, image())
    broken = net.replace({"0.bias": net.tensors["0.bias"].value.roll(1)})
    with pytest.raises(AssertionError, match=r"0\.bias"):
        testing.assert_round_trip(model, image(), net=broken)


def test_round_trip_fails_where_a_classifier_is_scrambled_on_write_back():
    model = cnn()
    net = trace(model, image())
    value = net.tensors["6.weight"].value
    scrambled = value.view(5, 9, 8).transpose(1, 2).reshape(5, 72)
    with pytest.raises(AssertionError, match=r"6\.weight"):
        testing.assert_round_trip(model, image(), net=net.replace({"6.weight": scrambled}))


def test_round_trip_fails_on_a_program_that_computes_something_else():
    model = cnn()
    net = trace(model, image())
    for node in net.program.graph.nodes:
        if str(node.target) == "aten.relu.default":
            node.target = torch.ops.aten.tanh.default
    with pytest.raises(AssertionError, match="traced program"):
        testing.assert_round_trip(model, image(), net=net)


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
