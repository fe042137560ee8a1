"""What a network declares and should not: every declaration must fail."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graphs import Axis, Network
from graphs.axes.dims import Atom, Dim, Fixed, Prod, size
from metaprune import testing
from metaprune.testing.permutations import batches, orders
from metaprune.testing.subject import prepared
from tests.metaprune.testing.subjects import assert_broken, cnn, double, freed, image, with_tensor


def with_axis(net: Network, axis: Axis, dims: dict[str, dict[int, Dim]]) -> Network:
    """The network with an axis of its own over some dimensions."""
    axes = MappingProxyType({**net.axes, axis.name: axis})
    net = replace(net, axes=axes, source=replace(net.source, axes=axes))
    for name, new in dims.items():
        old = net.tensors[name].dims
        net = with_tensor(net, name, dims=tuple(new.get(i, d) for i, d in enumerate(old)))
    return net


def test_a_coupling_is_missing():
    net, inputs = double()
    consumer = net.tensors["3.weight"]
    dims = (consumer.dims[0], Fixed(6), *consumer.dims[2:])
    assert_broken(with_tensor(net, "3.weight", dims=dims), inputs, r"permuting 0\.out changed")


def test_a_failure_says_what_to_look_at():
    net, inputs = double()
    consumer = net.tensors["3.weight"]
    dims = (consumer.dims[0], Fixed(6), *consumer.dims[2:])
    with pytest.raises(AssertionError) as failure:
        testing.assert_permutation_invariant(with_tensor(net, "3.weight", dims=dims), inputs)
    text = str(failure.value)
    assert "0.weight[0], 0.bias[0], 1.weight[0]" in text  # the group, as it is declared
    assert "first differ at aten.conv2d" in text  # where the tensor is that is missing from it


def test_an_output_is_declared_free():
    net, inputs = double()
    frozen = net.tensors["6.bias"].dims[0]
    assert_broken(freed(net, frozen.axis), inputs, f"permuting {frozen.axis}")


def test_a_classifier_is_scrambled():
    net, inputs = double()
    out, flat = net.tensors["6.weight"].dims
    assert flat == Prod((Atom("3.out"), Fixed(9, flat.factors[1].reason)))
    transposed = Prod(tuple(reversed(flat.factors)))
    broken = with_tensor(net, "6.weight", dims=(out, transposed))
    assert_broken(broken, inputs, r"permuting 3\.out")


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_running_statistics_are_left_out(statistic):
    subject = prepared(cnn(), image(), 0)
    broken = with_tensor(subject.net, f"1.{statistic}", dims=(Fixed(6),))
    assert_broken(broken, subject.inputs[0], r"permuting 0\.out")


def attention(layer: int, part: str) -> str:
    return f"model.layers.{layer}.self_attn.{part}_proj.weight"


def test_rotary_features_are_declared_free(llama):
    net = llama.net
    feature = Axis("rotary", 4, "head feature")
    dims = {}
    for part in "qk":
        *heads, features = net.tensors[attention(0, part)].dims[0].factors
        assert size(features, net.axes) == 4
        dims[attention(0, part)] = {0: Prod((*heads, Atom("rotary")))}
    broken = with_axis(net, feature, dims)
    assert_broken(broken, llama.inputs[1], "permuting rotary")
    assert testing.symmetries(broken) > testing.symmetries(net)


def test_value_and_output_heads_are_not_tied(llama):
    net = llama.net
    name = attention(1, "o")
    out, inside = net.tensors[name].dims
    broken = with_tensor(net, name, dims=(out, Fixed(size(inside, net.axes))))
    assert_broken(broken, llama.inputs[1], r"permuting model\.layers\.1\.self_attn")


def test_two_axes_that_belong_together_hide_nothing():
    # Two units each: permuted together, a coupling that is missing between them stays hidden.
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3)).double()
    subject = prepared(model, (torch.randn(3, 4).double(),), 0)
    broken = with_axis(subject.net, Axis("apart", 2), {"2.weight": {1: Atom("apart")}})
    for one_by_one in (True, False):
        with pytest.raises(AssertionError, match="permuting"):
            testing.assert_permutation_invariant(broken, subject.inputs[0], one_by_one=one_by_one)


@given(st.integers(2, 70))
def test_sets_of_axes_tell_any_two_apart(n):
    axes = [Axis(str(i), 2) for i in range(n)]
    sets = [{axis.name for axis in chosen} for chosen in batches(axes, False)]
    assert len(sets) <= 1 + 2 * n.bit_length()
    for a, b in permutations(map(str, range(n)), 2):
        assert any(a in chosen and b not in chosen for chosen in sets)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_orders_move_every_unit(n, seed):
    found = orders([Axis("a", n)], torch.Generator().manual_seed(seed))["a"]
    assert sorted(found.tolist()) == list(range(n))
    assert not any(unit == place for place, unit in enumerate(found.tolist()))
