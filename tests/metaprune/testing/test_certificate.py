"""Certificates say what was tested, what broke and what they cannot tell."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from graphs import trace
from graphs.axes.dims import Fixed
from graphs.program.rescale import Rescale
from metaprune import testing
from metaprune.testing.subject import prepared
from tests.metaprune.testing.subjects import assert_broken, with_tensor
from tests.oracles.networks.families import build
from tests.oracles.networks.random_networks import build as sentence
from tests.oracles.networks.random_networks import networks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet_option_a", "fused_attention", "vit", "llama"])
def test_certificate(name, dtype):
    model, inputs = build(name, dtype)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    found = testing.certify(model, inputs)
    assert found.holds, str(found)
    found.require()
    # Sizes are told in the dtype of the model.
    exact = [law for law in found.laws if law.name not in ("removal, data-dependent", "sizes")]
    assert all(law.deviation < 1e-9 for law in exact)
    assert json.loads(found.to_json())["holds"] is True
    assert sum(found.permutations.values()) == pytest.approx(
        testing.symmetries(trace(model, inputs))
    )
    assert not found.silent
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(networks)
def test_certificate_of_random_networks(spec):
    model, inputs = sentence(spec)
    testing.certify(model, inputs).require()


def test_certificate_of_several_outputs_and_integers():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.a, self.b = nn.Embedding(9, 6), nn.Linear(6, 4), nn.Linear(6, 5)

        def forward(self, ids, scale):
            x = torch.tanh(self.embed(ids)) * scale
            return {"a": self.a(x), "rest": [self.b(x), self.b(x).argmax(-1)]}

    inputs = {"ids": torch.randint(0, 9, (2, 3)), "scale": torch.rand(2, 3, 1)}
    found = testing.certify(Two(), inputs)
    assert found.holds, str(found)


def test_certificate_says_what_broke_and_does_not_raise(monkeypatch):
    monkeypatch.setattr(Rescale, "apply", lambda self, value, before, after: value)
    model, inputs = build("llama", torch.float32)
    found = testing.certify(model, inputs)
    assert not found.holds
    assert "removal, norm-rescaled" in str(found)
    assert "BROKEN" in str(found)
    with pytest.raises(AssertionError, match="removal, norm-rescaled: removing dead units"):
        found.require()


def test_certificate_names_axes_that_it_cannot_tell():
    class Ignored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.c(x) + 0.0 * self.b(torch.relu(self.a(x)))

    found = testing.certify(Ignored(), (torch.randn(2, 4),))
    assert found.silent == ("a.out",)
    assert "not told by permutations" in str(found)


def test_constants_of_zeros_are_drawn():
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.cat([self.token.expand(x.shape[0], 1, 4), self.a(x)], 1)
            return self.b(torch.relu(x))

    subject = prepared(Token(), (torch.randn(2, 5, 3),), 0)
    testing.assert_permutation_invariant(subject.net, subject.inputs[0])
    broken = with_tensor(
        subject.net, "token", dims=(*subject.net.tensors["token"].dims[:2], Fixed(4))
    )
    assert_broken(broken, subject.inputs[0], "permuting")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_certificate_on_a_gpu():
    model, inputs = build("llama", torch.bfloat16)
    inputs = {name: value.cuda() for name, value in inputs.items()}
    found = testing.certify(model.cuda(), inputs)
    assert found.holds, str(found)
