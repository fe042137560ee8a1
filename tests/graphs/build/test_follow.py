"""A forward that is followed computes the program, and one that computes something else is not."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graphs import trace
from graphs.build.compare import resized
from graphs.build.follow import follows
from graphs.build.interpreter import Running
from graphs.calls.running import as_inputs, outputs
from tests.graphs.build.test_rebuild import halved
from tests.oracles.networks.families import FAMILIES, build


class Ways(nn.Module):
    """One network, and forwards that look like it; `way` is set after the trace."""

    way = "traced"

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.heads = nn.Linear(6, 8), nn.Linear(8, 6), 4
        self.register_buffer("shift", torch.tensor([0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        way = self.way
        y = self.a(x) + torch.tensor(0.25 if way == "another constant" else 0.5)
        if way == "an idle call":
            y.exp().sum()
        if way == "a look" and y.sum() > 1e9:
            return x
        if way == "weights swapped":
            y = F.linear(x, self.b.weight.t(), self.a.bias) + torch.tensor(0.5)
        heads = 2 if way == "fewer heads" else 4
        y = y.view(-1, heads, 8 // heads)
        if way == "multiplied once more":
            y = y @ torch.eye(2)
        whole = y.flatten(1)
        if way == "read before it is changed":
            before = whole + 0
            y.relu_()
            whole = before
        else:
            y.relu_()
            whole = whole + 0
        scale = 0.5 if way == "another number" else 2
        noise = F.dropout(whole, 0.5, training=True)
        again = noise if way == "drawn once" else F.dropout(whole, 0.5, training=True)
        found = self.b(noise - again + whole) * scale
        return -found.neg() if way == "other calls" else found


def ways(way: str) -> bool:
    model, inputs = Ways().eval(), (torch.randn(1, 6),)
    net = trace(model, inputs)
    assert net.program.recorded
    other = copy.deepcopy(model)
    other.way = way
    return follows(net, other, (inputs, {}))


def test_what_makes_the_same_calls_is_followed():
    assert ways("traced")
    assert ways("an idle call")


@pytest.mark.parametrize(
    "way",
    [
        *("another constant", "a look", "weights swapped", "fewer heads", "multiplied once more"),
        *("read before it is changed", "another number", "drawn once", "other calls"),
    ],
)
def test_what_may_compute_something_else_is_not(way):
    assert not ways(way)


def test_what_does_not_run_is_not():
    model = Ways().eval()
    net = trace(model, (torch.randn(1, 6),))
    assert not follows(net, model, ((torch.randn(1, 5),), {}))


def test_another_number_of_examples_is_followed_where_no_call_states_it():
    x = torch.randn(1, 3, 8, 8)
    free = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))
    stated = copy.deepcopy(free)
    stated.forward = lambda x: stated[3](stated[1](stated[0](x)).reshape(x.shape[0], 144))
    for model, expected in ((free, True), (stated, False)):
        net = trace(model.eval(), (x,))
        assert follows(net, model, ((x,), {}))
        assert follows(net, model, resized(((x,), {}), 1)) is expected


STRAY = ("resnet_option_a", "fused_attention", "vit", "llama")
"""Families whose pruned module is the program itself, or is told about its mask in another way."""


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_followed_forward_computes_the_program(name):
    model, inputs = build(name, torch.float64)
    net = trace(model, inputs)
    for one in (net, halved(net)):
        small = one.to_model()
        told = follows(one, small, as_inputs(inputs))
        assert told or name in STRAY
        if told:
            program = Running(one, {key: tensor.value for key, tensor in one.tensors.items()})
            found = outputs(small, as_inputs(inputs))
            for got, value in zip(found, outputs(program, as_inputs(inputs)), strict=True):
                assert torch.equal(got, value)
