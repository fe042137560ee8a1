"""In place: the same module object, bit for bit the copy that would have been made."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.program.module import ExportedModule
from tests.graphs.build.test_rebuild import halved
from tests.oracles.networks.families import FAMILIES, build, run
from tests.oracles.networks.language import LANGUAGE_MODELS, language_model


@pytest.mark.parametrize("name", list(FAMILIES))
def test_in_place_is_the_copy_bit_for_bit_or_refused(name):
    model, inputs = build(name)
    small = halved(trace(model, inputs))
    expected, dense, said = small.to_model(), copy.deepcopy(model.state_dict()), str(model)
    if isinstance(expected, ExportedModule):
        with pytest.raises(ValueError, match="left as it was"):
            small.to_model(into=model)
        assert all(torch.equal(value, dense[key]) for key, value in model.state_dict().items())
        assert str(model) == said
        return
    assert small.to_model(into=model) is model
    assert model.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in expected.state_dict().items())
    assert torch.equal(run(model, inputs), run(expected, inputs))
    assert str(model) == str(expected)


@pytest.mark.parametrize("name", list(LANGUAGE_MODELS))
def test_configurations_follow(name):
    model = language_model(name)
    inputs = {"input_ids": torch.arange(14).reshape(2, 7) * 3 % 30}
    net = trace(model, inputs)
    free = [a for a in net.axes.values() if not a.frozen and a.kind != "head feature"]
    small = net.remove({a.name: range(0, a.size, 2) for a in free if a.size > 2})
    expected, config = small.to_model(), model.config
    assert small.to_model(into=model) is model
    assert model.config.to_dict() == expected.config.to_dict() != config.to_dict()
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    ids = inputs["input_ids"][:, :3]
    assert torch.equal(model.generate(ids, **options), expected.generate(ids, **options))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(11, 6), nn.Linear(6, 8)
        self.norm, self.back, self.head = nn.BatchNorm1d(8), nn.Linear(8, 6), nn.Linear(6, 11)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.back(self.norm(self.inner(self.embed(ids))).relu()))


def test_ties_flags_hooks_and_objects_stay():
    model, inputs = Tied().train(), (torch.tensor([1, 2, 3]),)
    model.inner.bias.requires_grad_(False)
    model.head(torch.ones(1, 6)).sum().backward()
    called = []
    model.back.register_forward_hook(lambda *_: called.append(1))
    objects = dict(model.named_parameters()) | dict(model.named_buffers())
    modules = list(model.modules())
    halved(trace(model, inputs)).to_model(into=model)
    assert dict(model.named_parameters()) | dict(model.named_buffers()) == objects
    assert list(model.modules()) == modules
    assert model.head.weight is model.embed.weight
    assert model.training
    assert not model.inner.bias.requires_grad
    assert all(p.grad is None for p in model.parameters())
    called.clear()
    model(*inputs).square().mean().backward()
    assert called == [1]
    assert model.inner.weight.grad.shape == model.inner.weight.shape == (4, 3)
    assert model.norm.num_features == 4


def test_the_dense_memory_is_free_once_no_dense_network_is_held():
    model, inputs = build("plain_cnn_flatten")
    dense = {name: weakref.ref(p.untyped_storage()) for name, p in model.named_parameters()}
    assert all(storage() is not None for storage in dense.values())
    shapes = {name: p.shape for name, p in model.named_parameters()}
    small = halved(trace(model, inputs))
    small.to_model(into=model)
    cut = {name: p for name, p in model.named_parameters() if p.shape != shapes[name]}
    assert "0.weight" in cut
    for name, parameter in cut.items():
        assert dense[name]() is None
        held = parameter.untyped_storage().nbytes()
        assert held == parameter.numel() * parameter.element_size()


def test_another_module_is_refused():
    model, inputs = build("plain_cnn_flatten")
    small = halved(trace(model, inputs))
    with pytest.raises(ValueError, match="does not fit into the Linear in place"):
        small.to_model(into=nn.Linear(2, 2))


def test_the_usual_case_builds_no_other_module(monkeypatch):
    monkeypatch.setattr("graphs.build.inplace.rebuild", None)
    model, inputs = build("plain_cnn_flatten")
    small = halved(trace(model, inputs))
    assert small.to_model(into=model) is model
    assert all(torch.equal(v, small.tensors[k].value) for k, v in model.state_dict().items())


def test_what_stops_the_forward_leaves_the_module_dense(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    model, inputs = build("plain_cnn_flatten")
    expected, said = copy.deepcopy(model.state_dict()), str(model)
    small = halved(trace(model, inputs))
    monkeypatch.setattr("graphs.build.inplace.follows", stop)
    with pytest.raises(KeyboardInterrupt):
        small.to_model(into=model)
    assert str(model) == said
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
