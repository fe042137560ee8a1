"""Removal, class by class: an axis of the wrong class is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from graphs import Network
from metaprune import testing
from tests.metaprune.testing.subjects import called, double, freed, lively_net, with_tensor


def test_lossless_fails_where_a_dead_unit_is_not_dead():
    net, inputs = double()
    # A bias that is not known to produce the units stays alive when the units die.
    broken = with_tensor(net, "1.bias", produces=(False,))
    live = broken.replace({"1.bias": torch.ones_like(net.tensors["1.bias"].value)})
    with pytest.raises(AssertionError, match=r"removing dead units of 0\.out"):
        testing.assert_lossless(live, inputs)


def test_lossless_fails_where_sigmoid_is_called_exact():
    net, inputs = lively_net(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3))
    testing.assert_lossless(net, inputs)  # a constant, which the bias takes in
    with pytest.raises(AssertionError, match="although the class is exact"):
        testing.assert_lossless(called(net, "exact"), inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_lossless_fails_where_a_unit_that_varies_is_called_a_constant(bias, llama):
    net, inputs = lively_net(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3, bias=bias))
    broken = with_tensor(net, "0.weight", produces=(False, False))
    with pytest.raises(AssertionError, match="although the class is bias-fold"):
        testing.assert_lossless(called(broken, "bias-fold"), inputs)


def test_lossless_fails_where_a_norm_is_not_rescaled(llama):
    testing.assert_lossless(llama.net, llama.inputs[1])
    program = replace(llama.net.program, rescales=())
    with pytest.raises(AssertionError, match="although the class is norm-rescaled"):
        testing.assert_lossless(replace(llama.net, program=program), llama.inputs[1])


def test_lossless_fails_where_a_softmax_over_channels_is_called_exact():
    net, inputs = lively_net(nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 3))
    name = net.tensors["0.bias"].dims[0].axis
    assert "softmax" in net.axes[name].frozen
    broken = freed(net, name)
    testing.assert_permutation_invariant(broken, inputs)  # it is a symmetry
    with pytest.raises(AssertionError, match="although the class is exact"):
        testing.assert_lossless(broken, inputs)


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6)])
def test_removal_under_a_norm_is_the_norm_of_what_stays(norm, monkeypatch):
    net, inputs = lively_net(nn.Linear(4, 6), norm, nn.GELU(), nn.Linear(6, 3))
    assert any(axis.exactness == "norm-changed" for axis in net.axes.values())
    testing.assert_lossless(net, inputs)
    remove = Network.remove

    def wrong(self, *args):
        small = remove(self, *args)
        name = next(n for n, t in small.tensors.items() if t.role == "scale")
        return small.replace({name: 1.1 * small.tensors[name].value})

    monkeypatch.setattr(Network, "remove", wrong)
    with pytest.raises(AssertionError, match="although the class is norm-changed"):
        testing.assert_lossless(net, inputs)


def test_lossless_fails_where_a_frozen_axis_is_cut(monkeypatch):
    net, inputs = double()
    monkeypatch.setattr(Network, "remove", lambda self, *args: self)
    with pytest.raises(AssertionError, match="is frozen"):
        testing.assert_lossless(net, inputs)
