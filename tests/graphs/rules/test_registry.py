"""A rule that a user's own module registers counts as much as those of the package."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.rules import RULES, Context, Value, rule
from graphs.rules.registry import known_of, lookup
from metaprune import testing

# An operator that no rule of the package knows: each feature is scaled by its sign's own slope.
torch.library.define("ours::slopes", "(Tensor x, Tensor up, Tensor down) -> Tensor")


@torch.library.impl("ours::slopes", "CompositeExplicitAutograd")
def slopes(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x * up, x * down)


@torch.library.register_fake("ours::slopes")
def slopes_without_values(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Sloped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.up, self.down = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.ops.ours.slopes(self.first(x), self.up, self.down))


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that a test registers are gone after it."""
    monkeypatch.setattr(RULES, "_things", dict(RULES))


def sample() -> tuple[nn.Module, tuple[torch.Tensor]]:
    torch.manual_seed(0)
    return Sloped(), (torch.randn(5, 4),)


def test_without_a_rule_what_an_operator_touches_is_frozen_with_the_reason() -> None:
    net = trace(*sample())
    frozen = net.axes[str(net.tensors["first.weight"].dims[0])].frozen or ""
    assert "no rule for the operator" in frozen
    assert "ours.slopes" in frozen


def test_a_rule_from_outside_makes_an_axis_prunable(rules: None) -> None:
    @rule("ours.slopes", zero="first")
    def slopes(ctx: Context, x: Value, up: Value, down: Value) -> tuple:
        feature = ctx.unify(x.dims[-1], ctx.unify(up.dims[0], down.dims[0]))
        ctx.role(up, "scale")
        ctx.role(down, "scale")
        return (*x.dims[:-1], feature)

    model, inputs = sample()
    net = trace(model, inputs)
    axis = net.axes[str(net.tensors["first.weight"].dims[0])]
    assert (axis.frozen, axis.exactness, axis.size) == (None, "exact", 6)
    assert {name for group in net.groups() if group.axis == axis for name, _ in group.tensors} == {
        *("first.weight", "first.bias", "last.weight", "up", "down")
    }
    testing.assert_lossless(model, inputs)
    testing.assert_permutation_invariant(model, inputs)
    pruned = net.remove(axis.name, [1, 4]).to_model()
    assert type(pruned) is Sloped
    assert pruned(*inputs).shape == (5, 3)
    assert tuple(pruned.up.shape) == (4,)
    assert known_of(torch.ops.ours.slopes.default).zero == "first"


def test_an_operator_has_one_rule_and_the_others_are_unknown() -> None:
    with pytest.raises(ValueError, match=r'a rule for operator "relu" is already registered'):
        rule("relu")(lambda ctx, x: x.dims)
    assert lookup(torch.ops.ours.slopes.default) is None
    assert known_of(torch.ops.ours.slopes.default).zero == "map"


def test_a_rule_for_one_overload_goes_before_that_for_all() -> None:
    assert lookup(torch.ops.aten.max.other) is RULES["max.other"]
    assert lookup(torch.ops.aten.max.dim) is RULES["max"]
