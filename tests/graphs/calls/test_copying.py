"""Copies of modules are what deepcopy makes of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphs.calls.copying import copy_module
from tests.oracles.networks.families import FAMILIES, build


def _shared(model):
    return {id(t): t for t in (*model.parameters(), *model.buffers())}


def _same(left, right):
    if isinstance(left, torch.Tensor):
        return left is right
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(map(_same, left.values(), right.values()))
    if isinstance(left, nn.Module):
        return type(left) is type(right)
    if isinstance(left, set):  # the same words may stand in another order
        return left == right
    return type(left) is type(right) and (callable(left) or repr(left) == repr(right))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_copy_is_what_deepcopy_makes(name):
    model, _ = build(name)
    made, expected = copy_module(model, _shared(model)), copy.deepcopy(model, _shared(model))
    for left, right, original in zip(
        made.modules(), expected.modules(), model.modules(), strict=True
    ):
        assert left is not original
        assert _same(vars(left), vars(right)), type(left).__name__


class Tangled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(3, 4)
        self.seen = [self.inner, {"again": self.inner}]
        self.parent = (self,)
        self.names = {"a", "b"}
        self.odd = {frozenset({1}): torch.Size([2])}
        self.register_forward_hook(lambda *_: None)


def test_references_inside_follow():
    model = Tangled()
    made = copy_module(model, _shared(model))
    assert made.seen[0] is made.inner is made.seen[1]["again"]
    assert made.inner is not model.inner
    assert made.inner.weight_ih_l0 is model.inner.weight_ih_l0
    assert made.parent[0] is made
    assert made.names == model.names
    assert made.names is not model.names
    assert len(made._forward_hooks) == 1


class Own(nn.Module):
    def __deepcopy__(self, memo):
        made = Own()
        made.how = "its own way"
        return made


def test_own_ways_of_copying_are_kept():
    made = copy_module(nn.Sequential(Own()), {})
    assert made[0].how == "its own way"


def test_replaced_tensors_come_in():
    model = nn.Linear(2, 3)
    other = nn.Parameter(torch.zeros(1, 2))
    made = copy_module(model, {id(model.weight): other, id(model.bias): model.bias})
    assert made.weight is other
    assert model.weight is not other
