"""What may be turned is said in words, with the size of the group and what must go before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from metaprune.inspection.faces import sentences
from tests.graphs.symmetries.networks import Attention, Stream, lively, tokens, vectors


def test_a_tied_stream_says_what_it_costs():
    found = metaprune.inspect(lively(Stream(nn.RMSNorm, tied=True)), tokens())
    (stream,) = found.turning
    assert sentences.turns(stream) == (
        "6 features may be rotated, after folding 2 norm scales and untying head.weight "
        "(+42 parameters): 15 numbers to choose"
    )
    assert sentences.turns(stream) in " ".join(str(found).split())


def test_a_layer_norm_leaves_rotations_around_the_ones():
    found = metaprune.inspect(lively(Stream()), tokens())
    (stream,) = found.turning
    assert "may be rotated around the vector of ones, after folding 2" in sentences.turns(stream)


def test_heads_have_matrices_of_their_own():
    found = metaprune.inspect(lively(Attention()), vectors())
    said = {one.axis: sentences.turns(one) for one in found.turning}
    assert said["v.out.head_feature"] == (
        "3 head features may be multiplied by invertible matrices, one for each of 2 heads: "
        "18 numbers to choose"
    )


class Remediable(nn.Module):
    """A stream behind layer norms, with something in the way of turning it, or without.

    Args:
        fault: "shared" scales of norms with other shifts, "small" scale before a head without a
            bias, the head used in "two places".
        fixed: whether it is done as the remedy says.
    """

    def __init__(self, fault: str, fixed: bool) -> None:
        super().__init__()
        self.fault, self.fixed = fault, fixed
        self.embed, self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.head = nn.Linear(6, 2, bias=fault != "small" or fixed)
        self.second = nn.Linear(6, 2) if fault == "two places" and fixed else self.head
        self.norm, self.last = nn.LayerNorm(6), nn.LayerNorm(6)
        with torch.no_grad():
            for norm in (self.norm, self.last):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-1, 1)
            if fault == "small":
                self.last.weight[0] = 1e-6
        if fault == "shared" and not fixed:
            self.last.weight = self.norm.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        x = x + self.down(self.up(self.norm(x)).relu())
        found = self.head(self.last(x))
        return found + self.second(x) if self.fault == "two places" else found


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("shared", "a scale of its own for each norm"),
        ("small", "biases, of zeros, for the weights that have none"),
        ("two places", "a weight of its own for each place"),
    ],
)
def test_the_remedy_frees_what_is_in_the_way(fault, remedy):
    inputs = (torch.randn(2, 3),)
    bad, good = (metaprune.inspect(Remediable(fault, fixed), inputs) for fixed in (False, True))
    (blocked,) = [one for one in bad.not_turning if one.remedy]
    assert blocked.remedy.startswith(remedy)
    turning = {one.axis for one in good.turning}
    assert set(blocked.axes) <= turning
    assert not set(blocked.axes) & {one.axis for one in bad.turning}


def test_a_shared_scale_is_untied_as_the_remedy_says():
    net = metaprune.trace(Remediable("shared", fixed=False), (torch.randn(2, 3),))
    blocked = [name for name, found in net.symmetries().items() if "is shared" in found.blocked]
    assert blocked
    freed = net.untie("last.weight").symmetries()
    assert all(freed[name].turns for name in blocked)


def test_what_stands_in_the_way_is_said_with_its_place():
    model = lively(Stream(on_the_stream=torch.relu))
    found = metaprune.inspect(model, tokens())
    assert found.turning == ()
    assert {one.operator for one in found.not_turning} == {"aten.relu.default", "aten.gelu.default"}
    assert all(one.places for one in found.not_turning)
    assert "May not be turned" in str(found)
    assert type(found).from_json(found.to_json()) == found
