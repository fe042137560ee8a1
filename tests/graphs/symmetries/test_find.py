"""The group of an axis follows from the operators between what makes it and what reads it."""

from __future__ import annotations

import re
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.rules import RULES, rule
from graphs.rules.registry import Turning
from graphs.symmetries.members import dimension
from graphs.symmetries.passing.visit import HANDLERS
from graphs.symmetries.values import Untie
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


def found(model: nn.Module, inputs, axis: str):
    net = trace(lively(model), inputs)
    return net, net.symmetry(axis)


@pytest.mark.parametrize(
    ("norm", "ones"),
    [
        (nn.RMSNorm, False),
        (OffsetNorm, False),
        (nn.LayerNorm, True),
        (SpelledNorm, True),
        (partial(nn.RMSNorm, elementwise_affine=False), False),
        (partial(nn.LayerNorm, elementwise_affine=False), True),
    ],
)
def test_a_stream_behind_norms_may_be_rotated(norm, ones):
    net, s = found(Stream(norm), tokens(), "embed.out")
    assert (s.group, s.keeps_ones, s.per) == ("rotations", ones, None)
    affine = any("norm" in name for name in net.tensors)
    assert len(s.folds) == (2 if affine else 0)
    assert s.ready is not affine
    assert {slot.tensor for slot in (*s.writers, *s.readers)} == {
        *("embed.weight", "up.weight", "down.weight", "down.bias", "head.weight")
    }
    free = (FEATURES - ones) * (FEATURES - 1 - ones) // 2
    assert dimension(net, s) == free


@pytest.mark.parametrize(
    ("model", "inputs", "axis", "reason"),
    [
        (Stream(on_the_stream=torch.relu), tokens(), "embed.out", "no matrix passes aten.relu"),
        (Stream(post=True), tokens(), "embed.out", r"norm\.weight differs.*goes to aten\.add"),
        (Bottleneck(depthwise=True), images(), "stem.0.out", "told apart by aten.conv2d"),
        (Attention(norm=True), vectors(), "q.out.head_feature", "not by weights alone|attention"),
        (Attention(), vectors(), "q.out.head", "attention weighs its units one by one"),
    ],
)
def test_what_stands_in_the_way_is_said(model, inputs, axis, reason):
    _, s = found(model, inputs, axis)
    assert not s.turns
    assert s.group in ("permutations", "scales")
    assert re.search(reason, s.blocked)


def test_rotary_planes_may_not_be_mixed():
    net = trace(lively(Attention(rotary=True)), vectors())
    features = net.tensors["q.weight"].axes_made
    assert any(net.axes[name].size == 2 for name in features)
    found = net.symmetries()
    assert not any(found[name].turns for name in features)
    assert any("no matrix passes aten.cos" in found[name].blocked for name in features)


def test_value_features_have_a_matrix_for_each_key_value_head():
    net, s = found(Attention(), vectors(), "v.out.head_feature")
    assert (s.group, s.per) == ("invertible", "q.out.head")
    assert net.axes[s.per].size == 2
    assert {slot.tensor for slot in s.writers} == {"v.weight", "v.bias"}
    assert {slot.tensor for slot in s.readers} == {"o.weight"}
    assert dimension(net, s) == 2 * 9


def test_queries_turn_against_keys():
    _, s = found(Attention(), vectors(), "q.out.head_feature")
    assert (s.group, s.per) == ("invertible", "q.out.head")
    sides = [{slot.tensor[0] for slot in slots} for slots in (s.writers, s.readers)]
    assert {frozenset(side) for side in sides} == {frozenset("q"), frozenset("k")}


def test_linear_bottlenecks_take_any_invertible_matrix():
    _, s = found(Bottleneck(), images(), "stem.0.out")
    assert s.group == "invertible"
    assert {f.scale for f in s.folds} == {"stem.1.weight", "thin.1.weight"}
    assert {f.into for f in s.folds} == {"writers"}


def test_a_tied_head_behind_an_uneven_scale_costs_its_parameters():
    net, s = found(Stream(nn.RMSNorm, tied=True), tokens(), "embed.out.2")
    assert s.turns
    assert s.unties == (Untie("head.weight", "embed.weight", 7 * FEATURES),)
    assert not s.ready
    even = net.replace({"last.weight": torch.full_like(net.tensors["last.weight"].value, 0.7)})
    again = even.symmetry("embed.out.2")
    assert again.unties == ()
    assert [f.scale for f in again.folds] == ["norm.weight"]


def test_an_operator_without_a_word_blocks():
    model = nn.Sequential(nn.Linear(3, 6), nn.Dropout(), nn.Linear(6, 2))
    net = trace(model, (torch.randn(2, 3),))
    assert net.symmetry("0.out").group == "invertible"
    with RULES.scoped():
        del RULES._things["dropout"]
        rule("dropout")(lambda ctx, x, *args: x.dims)
        blocked = trace(model, (torch.randn(2, 3),)).symmetry("0.out")
    assert "no matrix passes aten.dropout" in blocked.blocked


class Written(nn.Module):
    """A stream that is written to in place, before and behind a view of it."""

    def __init__(self, write) -> None:
        super().__init__()
        self.first, self.last, self.write = nn.Linear(3, 6), nn.Linear(6, 2, bias=False), write
        self.scale = nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x):
        x = self.first(x)
        self.write(self, x)
        return self.last(x)


def scale_itself(model, x):
    x.mul_(model.scale)


def scale_a_view(model, x):
    x.view(-1, 6).mul_(model.scale)


def add_to_a_view(model, x):
    x.view(-1, 6).add_(model.scale)


def put_ones(model, x):
    x[..., :1, :] = torch.ones(())


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (scale_itself, ""),
        (add_to_a_view, ""),
        (scale_a_view, r"written to in place at aten\.mul_"),
        (put_ones, r"no matrix passes|other numbers|told apart"),
    ],
)
def test_what_is_written_in_place_is_followed_or_blocks(write, reason):
    model, x = lively(Written(write)), torch.randn(2, 4, 3, dtype=torch.float64)
    net = trace(model, (x,))
    s = net.symmetry(net.tensors["first.weight"].axes_made[0])
    assert s.turns is not bool(reason), s.blocked
    assert re.search(reason, s.blocked)
    testing.assert_rotation_invariant(net, (x,))


def test_every_word_of_a_rule_has_a_function():
    words = {known.turns for known in RULES.values()} - {""}
    assert words == set(HANDLERS) == set(get_args(Turning)) - {""}
    assert all(
        (known.turns == "contract") is (known.labels is not None) for known in RULES.values()
    )


def test_groups_are_those_of_an_exported_program():
    for model, inputs in ((Stream(), tokens()), (Attention(), vectors()), (Bottleneck(), images())):
        model = lively(model)
        recorded, exported = (trace(model, inputs, every_size=size) for size in (False, True))
        assert dict(recorded.symmetries()) == dict(exported.symmetries())


def test_groups_stay_when_units_go():
    model = lively(Stream())
    net = trace(model, tokens())
    small = net.remove("up.out", [0, 5])
    assert small.symmetry("embed.out") == net.symmetry("embed.out")
    thin = net.remove("embed.out", [1]).symmetry("embed.out")
    assert (thin.group, thin.writers) == ("rotations", net.symmetry("embed.out").writers)


def test_outputs_and_inputs_are_left_alone():
    net = trace(nn.Linear(3, 4), (torch.randn(2, 3),))
    assert {s.group for s in net.symmetries().values()} == {"identity"}
    assert all(s.blocked for s in net.symmetries().values())


def test_groups_are_found_without_values():
    with torch.device("meta"):
        model, inputs = Stream(nn.LayerNorm, bias=False), (torch.empty(2, 4, dtype=torch.int64),)
    s = trace(model, inputs).symmetry("embed.out")
    assert s.group == "rotations"
    assert len(s.folds) == 2
