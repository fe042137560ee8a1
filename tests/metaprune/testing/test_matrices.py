"""Members of groups of matrices leave the function; what is no member is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.rules import RULES
from graphs.symmetries.members import random_member
from graphs.symmetries.turn import turned
from graphs.symmetries.values import Slot, Symmetry
from metaprune import testing
from metaprune.testing.checking import gap
from tests.graphs.symmetries.networks import Attention, Stream, lively, tokens, vectors


def outputs(net, inputs) -> list[torch.Tensor]:
    with torch.no_grad():
        return [net.to_model()(*inputs)]


def deviation(model, inputs, axis, matrix, **forged) -> float:
    """By how much the outputs change when an axis is turned, member or not."""
    net = trace(lively(model), inputs)
    if net.symmetry(axis).folds:
        net = net.fold_norms(axis)
    found = replace(net.symmetry(axis), **forged)
    generator = torch.Generator().manual_seed(0)
    matrix = random_member(net, found, generator) if matrix is None else matrix
    return gap(outputs(net, inputs), outputs(turned(net, found, matrix), inputs))


def rotation(n):
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Stream(), tokens()),
        (Stream(nn.RMSNorm, tied=True), tokens()),
        (lively(Attention()), vectors()),
    ],
)
def test_declared_groups_hold(model, inputs):
    testing.assert_rotation_invariant(model, inputs)
    found = testing.certify(model, inputs)
    (law,) = [law for law in found.laws if law.name == "matrix"]
    assert law.count
    assert law.deviation < 1e-12
    assert sum(found.matrices.values()) > 0


def test_a_rectified_stream_may_not_be_rotated():
    wrong = {"relu": replace(RULES["relu"], turns="each")}
    with RULES.scoped(wrong), pytest.raises(AssertionError, match=r"turning embed\.out changed"):
        testing.assert_rotation_invariant(Stream(on_the_stream=torch.relu), tokens())


def test_a_layer_norm_stream_may_only_be_rotated_around_the_ones():
    assert deviation(Stream(), tokens(), "embed.out", None) < 1e-12
    free = deviation(Stream(), tokens(), "embed.out", None, keeps_ones=False)
    assert free > 1e-3


def test_invertible_is_too_much_for_a_norm():
    skewed = torch.diag(torch.linspace(0.5, 2, 6, dtype=torch.float64))
    assert deviation(Stream(nn.RMSNorm), tokens(), "embed.out", skewed) > 1e-3


def test_rotary_planes_may_not_be_mixed():
    net = trace(lively(Attention(rotary=True)), vectors())
    ((axis, size),) = [(a.name, a.size) for a in net.axes.values() if a.name == "angles.out"]
    slots = [Slot(f"{n}.{t}", 0, part) for n in "qk" for t in ("weight", "bias") for part in (0, 1)]
    forged = Symmetry(axis, "rotations", writers=tuple(slots))
    same = turned(net, forged, torch.eye(size, dtype=torch.float64))
    mixed = turned(net, forged, rotation(size))
    expected = outputs(net, vectors())
    assert gap(expected, outputs(same, vectors())) < 1e-12
    assert gap(expected, outputs(mixed, vectors())) > 1e-3


def test_query_heads_that_share_a_value_share_its_matrix():
    axis = "v.out.head_feature"
    net = trace(lively(Attention()), vectors())
    found = net.symmetry(axis)
    matrices = torch.stack([rotation(3) for _ in range(2)])
    assert deviation(Attention(), vectors(), axis, matrices) < 1e-12
    # Query heads 0 and 1 read the first value head, 2 and 3 the second: exchange the inner two.
    weight = net.tensors["o.weight"].value
    wrong = turned(net, found, matrices).tensors["o.weight"].value.view(5, 4, 3)
    other = turned(net, found, matrices.flip(0)).tensors["o.weight"].value.view(5, 4, 3)
    mixed = torch.stack([wrong[:, 0], other[:, 1], wrong[:, 2], other[:, 3]], 1)
    moved = turned(net, found, matrices).replace({"o.weight": mixed.reshape(weight.shape)})
    assert gap(outputs(net, vectors()), outputs(moved, vectors())) > 1e-3


def test_a_fold_that_forgets_a_reader_is_caught():
    net = trace(lively(Stream(nn.RMSNorm)), tokens())
    after = net.fold_norms("embed.out")
    forgot = after.replace({"up.weight": net.tensors["up.weight"].value})
    before = outputs(net, tokens())
    assert gap(before, outputs(after, tokens())) < 1e-12
    assert gap(before, outputs(forgot, tokens())) > 1e-3
