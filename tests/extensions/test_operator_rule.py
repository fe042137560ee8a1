"""An operator that the package has never heard of, with a rule from outside."""

from __future__ import annotations

import torch
from torch import nn

import metaprune
from graphs.rules import RULES, known_of
from metaprune import testing


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.strength = nn.Parameter(torch.rand(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.ops.mine.gate(self.first(x), self.strength))


def gated() -> nn.Module:
    torch.manual_seed(0)
    return Gated().eval()


SOURCE = {"source": "function", "function": "tests.extensions.test_operator_rule:gated"}
INPUTS = (torch.linspace(-2, 2, 20).reshape(5, 4),)


def hidden(net: metaprune.Network):
    return net.axes[str(net.tensors["first.weight"].dims[0])]


def test_without_a_rule_what_an_operator_touches_is_frozen_with_the_reason(add):
    with RULES.scoped():
        add("operator rule")
    frozen = hidden(metaprune.trace(gated(), INPUTS)).frozen or ""
    assert "no rule for the operator" in frozen
    assert "mine.gate" in frozen
    assert known_of(torch.ops.mine.gate.default).zero == "map"


def test_with_a_rule_its_axis_is_pruned_and_the_laws_hold(add, reopened):
    add("operator rule")
    model = gated()
    net = metaprune.trace(model, INPUTS)
    axis = hidden(net)
    assert (axis.frozen, axis.exactness, axis.size) == (None, "exact", 6)
    coupled = {name for group in net.groups() if group.axis == axis for name, _ in group.tensors}
    assert coupled == {"first.weight", "first.bias", "last.weight", "strength"}
    testing.assert_lossless(model, INPUTS)
    testing.assert_permutation_invariant(model, INPUTS)
    result = metaprune.prune(model, INPUTS, target={"macs": "50%"}, metanet=None)
    assert tuple(result.model.strength.shape) == (3,)
    assert type(reopened(result, source=SOURCE)) is Gated


def test_a_pruned_network_opens_as_its_program_too(add, reopened):
    add("operator rule")
    found = reopened(metaprune.prune(gated(), INPUTS, target={"macs": "50%"}, metanet=None))
    assert not isinstance(found, Gated)
