"""Groups against the oracle: nothing missing, nothing in excess, and the oracle sees both.

`tests.oracles.coupling` says what it decides, and how it needs no operator rule for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import nn

from graphs import trace
from graphs.axes.unify import Unifier
from graphs.rules import RULES
from tests.oracles.coupling import Oracle, Verdict, judge
from tests.oracles.networks.random_networks import build, images, networks, sequences

# Axes that are frozen on purpose although a cut is possible. A term of a concatenation may be a
# single unit, which could go as a whole; an axis keeps at least one unit. Where an axis meets
# itself in a product (two shuffles that are added up), a cut takes most of it.
DELIBERATE = ("it has a single unit", "an axis meets")

quick = settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
thorough = settings(quick, max_examples=250)


def verdict(model: nn.Module, inputs: tuple[Any, ...]) -> Verdict:
    return judge(trace(model, inputs), Oracle(model, inputs))


def assert_agreement(spec: tuple[Any, ...]) -> None:
    found = verdict(*build(spec))
    assert not found.missing, f"{spec}\nmissing: {found.missing[0]}"
    assert not found.excess, f"{spec}\nexcess: {found.excess[0]}"
    lost = {c: why for c, why in found.lost.items() if not any(d in why for d in DELIBERATE)}
    assert not lost, f"{spec}\ncould be cut, but: {next(iter(lost.items()))}"


@quick
@given(images)
def test_groups_of_random_convolutional_networks(spec):
    assert_agreement(spec)


@quick
@given(sequences)
def test_groups_of_random_sequence_networks(spec):
    assert_agreement(spec)


@pytest.mark.slow
@thorough
@given(networks)
def test_groups_of_many_random_networks(spec):
    assert_agreement(spec)


# Every block of the grammar once, in a place where it matters.
SENTENCES = [
    ("image", 4, [("conv", 6, 2, True), ("norm", "batch"), ("act", "relu")], "flat"),
    ("image", 4, [("depthwise", 2), ("norm", "group"), ("shuffle", 2)], "max"),
    ("image", 4, [("residual", [("conv", 6, 1, False)]), ("padded",)], "mean"),
    ("image", 4, [("dense", [("conv", 6, 1, True)]), ("excite",), ("pool", True)], "mean"),
    ("image", 6, [("split", [("depthwise", 1)]), ("shuffle", 2), ("glu", False)], "mean"),
    ("image", 6, [("uneven", [("scale", True)]), ("norm", "nhwc"), ("glu", True)], "mean"),
    ("image", 4, [("twice", [("conv", 6, 1, True)]), ("norm", "instance")], "mean"),
    ("features", 4, [("attention", (4, 2), "separate", True), ("norm", "rms")], "each"),
    ("features", 4, [("attention", (2, 1), "separate", False), ("norm", "layer")], "mean"),
    ("tokens", 4, [("residual", [("attention", (2, 2), "chunked", False)])], "each"),
    ("tokens", 4, [("attention", (2, 2), "packed", True), ("norm", "spelled")], "flat"),
    ("features", 4, [("gated", 6), ("tied", 6), ("scale", False)], "each"),
    ("features", 4, [("mixer", 5), ("depthwise1d",), ("sum", [("linear", 6, True)])], "mean"),
]  # fmt: skip


@pytest.mark.parametrize("spec", SENTENCES, ids=lambda s: "-".join(b[0] for b in s[2]))
def test_groups_of_every_block(spec):
    assert_agreement(spec)


# What the oracle says where the answer is known by hand ------------------------------------------


def test_oracle_knows_a_channel():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    oracle = Oracle(model.double(), (torch.randn(2, 1, 4, 4, dtype=torch.float64),))
    channel = {("0.weight", 0, 1), ("0.bias", 0, 1)}
    channel |= {(f"1.{n}", 0, 1) for n in ("weight", "bias", "running_mean", "running_var")}
    channel |= {("3.weight", 1, i) for i in range(4, 8)}
    assert oracle.cuts(("1.running_var", 0, 1)) == {frozenset(channel)}
    assert oracle.cuts(("3.weight", 0, 0)) == frozenset()  # an output of the model


def test_oracle_knows_that_a_head_and_a_feature_of_heads_can_go():
    spec = ("features", 4, [("attention", (2, 2), "separate", True)], "each")
    oracle = Oracle(*build(spec))
    block = "body.blocks.0"
    maps = {("weight", 0), ("bias", 0)}
    head = {(f"{block}.{n}.{w}", d, i) for n in "qkv" for w, d in maps for i in (0, 1)}
    head |= {(f"{block}.o.weight", 1, i) for i in (0, 1)}
    feature = {(f"{block}.v.{w}", d, i) for w, d in maps for i in (0, 2)}
    feature |= {(f"{block}.o.weight", 1, i) for i in (0, 2)}
    cuts = {frozenset(head), frozenset(feature)}
    assert oracle.cuts((f"{block}.v.weight", 0, 0)) == cuts


# Mutations: a rule is broken, and the oracle says so ---------------------------------------------


def broken(name: str, function: Any) -> AbstractContextManager[None]:
    return RULES.scoped({name: replace(RULES[name], function=function)})


RESIDUAL = ("features", 4, [("residual", [("linear", 6, True), ("act", "tanh")])], "each")
DENSE = ("features", 4, [("dense", [("linear", 4, True), ("act", "tanh")])], "each")


def test_oracle_sees_an_addition_that_does_not_couple():
    with broken("add", lambda ctx, a, b, **kwargs: a.dims):
        found = verdict(*build(RESIDUAL))
    assert any("cannot go without" in m and "back.weight" in m for m in found.missing)
    assert not found.excess


def test_oracle_sees_a_concatenation_that_couples():
    rule = RULES["cat"].function

    def cat(ctx, tensors, dim=0):
        ctx.unify(tensors[0].dims[dim], tensors[1].dims[dim])
        return rule(ctx, tensors, dim)

    with broken("cat", cat):
        found = verdict(*build(DENSE))
    assert any("need not take" in e and "stem" in e for e in found.excess)


def test_oracle_sees_a_linear_map_that_couples_its_sides():
    rule = RULES["linear"].function

    def linear(ctx, x, weight, bias=None):
        if weight.shape[0] == weight.shape[1]:
            ctx.unify(*weight.dims)
        return rule(ctx, x, weight, bias)

    with broken("linear", linear):
        found = verdict(*build(DENSE))
    assert found.excess


def test_oracle_sees_an_output_that_is_free(monkeypatch):
    freeze = Unifier.freeze

    def forgetful(self, dim, reason, *args, **kwargs):
        if reason != "output of the model":
            freeze(self, dim, reason, *args, **kwargs)

    monkeypatch.setattr(Unifier, "freeze", forgetful)
    found = verdict(*build(DENSE))
    assert any("outputs of the model" in m and "out.weight" in m for m in found.missing)


def test_oracle_sees_freedom_that_is_lost():
    with RULES.scoped({"tanh": None}):
        found = verdict(*build(RESIDUAL))
    assert any("tanh" in why for why in found.lost.values())
    assert not found.missing
