"""Members of a group leave the function, and nothing else passes for a member."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import nn

from graphs import trace
from graphs.symmetries.members import ones_first, random_member
from metaprune import testing
from tests.graphs.symmetries.networks import (
    FEATURES,
    Attention,
    Bottleneck,
    OffsetNorm,
    SpelledNorm,
    Stream,
    images,
    lively,
    tokens,
    vectors,
)
from tests.oracles.networks.random_networks import build, networks, sequences

CASES = {
    "rms norm": (Stream(nn.RMSNorm), tokens(), "embed.out"),
    "scale of 1 + w": (Stream(OffsetNorm), tokens(), "embed.out"),
    "layer norm": (Stream(), tokens(), "embed.out"),
    "layer norm, no bias to read it": (Stream(bias=False), tokens(), "embed.out"),
    "layer norm behind a mask": (Stream(mask=True), tokens(), "embed.out"),
    "layer norm spelled out": (Stream(SpelledNorm), tokens(), "embed.out"),
    "layer norm without scale": (
        Stream(partial(nn.LayerNorm, elementwise_affine=False)),
        tokens(),
        "embed.out",
    ),
    "tied": (Stream(nn.RMSNorm, tied=True), tokens(), "embed.out.2"),
    "bottleneck": (Bottleneck(), images(), "stem.0.out"),
    "values": (Attention(), vectors(), "v.out.head_feature"),
    "queries and keys": (Attention(), vectors(), "q.out.head_feature"),
    "values behind rotary keys": (Attention(rotary=True), vectors(), "v.out.head_feature"),
}


def ready(net, axis):
    if net.symmetry(axis).unties:
        net = net.untie(axis)
    if net.symmetry(axis).folds:
        net = net.fold_norms(axis)
    assert net.symmetry(axis).ready
    return net


def member(net, axis, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return random_member(net, net.symmetry(axis), generator)


@pytest.mark.parametrize("name", CASES)
def test_a_member_leaves_function_and_class(name):
    model, inputs, axis = CASES[name]
    model = lively(model)
    expected = model(*inputs)
    net = ready(trace(model, inputs), axis)
    torch.testing.assert_close(net.to_model()(*inputs), expected, rtol=1e-10, atol=1e-10)
    turned = net.rotate(axis, member(net, axis))
    assert any(not torch.equal(turned.tensors[n].value, t.value) for n, t in net.tensors.items())
    back = turned.to_model()
    assert type(back) is type(model)
    torch.testing.assert_close(back(*inputs), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(*inputs), expected, rtol=0, atol=0)


def test_one_matrix_for_all_heads_is_a_member_as_well():
    model = lively(Attention())
    net = trace(model, vectors())
    matrix = torch.eye(3, dtype=torch.float64) + 0.3
    turned = net.rotate("v.out.head_feature", matrix).to_model()
    torch.testing.assert_close(turned(*vectors()), model(*vectors()), rtol=1e-10, atol=1e-10)


def test_tensors_keep_their_dtype():
    model = lively(Stream(nn.RMSNorm)).bfloat16()
    net = ready(trace(model, tokens()), "embed.out")
    turned = net.rotate("embed.out", member(net, "embed.out"))
    assert {t.value.dtype for t in turned.tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (torch.eye(FEATURES) * 1.1, "must be orthogonal"),
        (torch.eye(FEATURES - 1), "expected a matrix"),
        (torch.eye(FEATURES).expand(2, -1, -1), "expected a matrix"),
        (torch.full((FEATURES, FEATURES), torch.nan), "not finite"),
        (-torch.eye(FEATURES), "must keep the vector of ones"),
    ],
)
def test_what_is_no_member_is_refused(matrix, reason):
    net = ready(trace(lively(Stream()), tokens()), "embed.out")
    with pytest.raises(ValueError, match=reason):
        net.rotate("embed.out", matrix)


def test_a_matrix_without_an_inverse_is_refused():
    net = trace(lively(Attention()), vectors())
    with pytest.raises(ValueError, match="too near to one without an inverse"):
        net.rotate("v.out.head_feature", torch.ones(3, 3))


def test_what_must_be_done_before_is_said():
    net = trace(lively(Stream(nn.RMSNorm, tied=True)), tokens())
    one = torch.eye(FEATURES)
    with pytest.raises(ValueError, match=r"untie head\.weight first"):
        net.rotate("embed.out.2", one)
    with pytest.raises(ValueError, match=r"untie head\.weight first"):
        net.fold_norms("embed.out.2")
    net = net.untie("embed.out.2")
    with pytest.raises(ValueError, match=r"fold its norms first .*: norm\.weight, last\.weight"):
        net.rotate("embed.out.2", one)
    with pytest.raises(ValueError, match=r"cannot be turned: no matrix passes aten\.gelu"):
        net.rotate("up.out", torch.eye(10))
    with pytest.raises(ValueError, match=r"cannot be folded: no matrix passes aten\.gelu"):
        net.fold_norms("up.out")
    with pytest.raises(KeyError, match="no axis 'nothing'"):
        net.rotate("nothing", one)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_basis_that_starts_with_ones_is_orthonormal(n):
    basis = ones_first(n)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(n, dtype=torch.float64))
    torch.testing.assert_close(basis[:, 0], torch.full((n,), n**-0.5, dtype=torch.float64))


random_networks = settings(
    max_examples=15,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


@random_networks
@given(sequences)
def test_groups_of_random_sequence_networks(spec):
    testing.assert_rotation_invariant(*build(spec))


@pytest.mark.slow
@settings(random_networks, max_examples=250)
@given(networks)
def test_groups_of_many_random_networks(spec):
    testing.assert_rotation_invariant(*build(spec))
