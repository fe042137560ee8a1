"""The law of independence holds for sound copies, and fails for every kind of broken one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.calls import copying
from metaprune import testing
from tests.graphs.calls.entangled import HOOKS, WRAPPERS, Kept, Plain
from tests.graphs.calls.test_independence import Counting

INPUTS = (torch.randn(2, 6, generator=torch.Generator().manual_seed(1)),)


def _entangled(name):
    if name in HOOKS:
        return Kept().hooked(HOOKS[name]).eval()
    model = Plain().eval()
    WRAPPERS[name](model)
    return model


@pytest.mark.parametrize("name", ["closure", "weak", "bound method", "autocast", "checkpointed"])
def test_it_holds_and_leaves_the_model_alone(name):
    model = _entangled(name)
    model(*INPUTS)
    before = copy.deepcopy(model.state_dict())
    kept = dict(getattr(model, "kept", {}))
    found = testing.certify(model, INPUTS)
    found.require()
    assert "independence" in [law.name for law in found.laws]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {k: id(v) for k, v in getattr(model, "kept", {}).items()} == {
        k: id(v) for k, v in kept.items()
    }


def test_buffers_stay_with_their_versions():
    model = Counting().eval()
    versions = {name: (id(b), b._version) for name, b in model.named_buffers()}
    testing.certify(model, INPUTS).require()
    assert {name: (id(b), b._version) for name, b in model.named_buffers()} == versions
    assert model.calls == 0


def _fails(model, words):
    net = trace(model, INPUTS)

    def check(break_it):
        break_it(net)
        with pytest.raises(AssertionError, match=words):
            testing.assert_round_trip(model, INPUTS, net=net)
        law = next(n for n in testing.certify(model, INPUTS, net=net).laws if n.failures)
        assert law.name in ("round trip", "independence")

    return check


@pytest.mark.parametrize("name", ["closure", "default_argument", "closure_in_a_closure"])
def test_it_fails_where_hooks_are_shared(name, monkeypatch):
    model = _entangled(name)
    model(*INPUTS)
    _fails(model, "what came back does not run|wrote into|differ|does not compute")(
        lambda net: monkeypatch.setattr(copying._Copier, "_function", lambda self, value: value)
    )


@pytest.mark.parametrize("name", ["autocast", "wrapped", "wrapped_inside", "checkpointed"])
def test_it_fails_where_wrapped_forwards_are_shared(name, monkeypatch):
    _fails(_entangled(name), "the copy does not compute what it should")(
        lambda net: monkeypatch.setattr(copying._Copier, "_function", lambda self, value: value)
    )


def test_it_fails_where_weights_are_shared(monkeypatch):
    model = Plain().eval()

    def share(net):
        made = net.to_model()
        for mine, own in zip(made.modules(), model.modules(), strict=True):
            mine._parameters.update(own._parameters)
        monkeypatch.setattr(type(net), "to_model", lambda self: made)

    _fails(model, "original does not compute what it should")(share)


def test_it_fails_where_memory_is_shared(monkeypatch):
    model = Plain().eval()

    def share(net):
        made = net.to_model()
        made.end.weight.data = model.end.weight.data
        monkeypatch.setattr(type(net), "to_model", lambda self: made)

    _fails(model, r"end\.weight of the copy lies in the memory")(share)


def test_it_fails_where_buffers_are_shared(monkeypatch):
    model = Counting().eval()

    def share(net):
        made = net.to_model()
        made._buffers.update(model._buffers)
        monkeypatch.setattr(type(net), "to_model", lambda self: made)

    _fails(model, "wrote into _buffers|lies in the memory")(share)


class Listing(nn.Linear):
    """Keeps what it saw in a list of its own."""

    def __init__(self):
        super().__init__(6, 3)
        self.seen = []

    def forward(self, x):
        self.seen.append(1)
        return super().forward(x)


def test_it_fails_where_a_list_is_shared(monkeypatch):
    model = Listing().eval()

    def share(net):
        made = net.to_model()
        made.seen = model.seen
        monkeypatch.setattr(type(net), "to_model", lambda self: made)

    _fails(model, "wrote into seen of Listing")(share)
