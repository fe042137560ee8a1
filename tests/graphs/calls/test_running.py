"""Running leaves no trace, and what a forward keeps for its next call never meets other weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.rebuild import graph_model
from graphs.calls.running import (
    evaluation,
    forget,
    in_mode,
    outputs,
    quiet_evaluation,
    run,
    undisturbed,
)
from graphs.program.module import ExportedModule


class Biased(nn.Module):
    """Attention whose biases are looked up once in evaluation mode, as LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 3 * 4 * 5), nn.Linear(20, 3)
        self.biases = nn.Parameter(torch.randn(4, 9))
        self.heads, self.kept = 4, {}

    def train(self, mode: bool = True) -> Biased:
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def bias(self) -> torch.Tensor:
        if not self.training and "here" not in self.kept:
            self.kept["here"] = self.biases[:, torch.arange(9) // 3 * 3].view(-1, 3, 3)
        return self.kept["here"] if self.kept else self.biases[:, torch.arange(9)].view(-1, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(x.shape[0], 3, 3, self.heads, 5).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) + self.bias()
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def biased(warm: bool):
    torch.manual_seed(0)
    model, x = Biased().eval().double(), torch.randn(2, 3, 6).double()
    if warm:
        model(x)
    return model, x


def heads(net):
    return next(a.name for a in net.axes.values() if a.kind == "head" and not a.frozen)


@pytest.mark.parametrize("warm", [False, True])
def test_a_copy_with_other_weights_starts_without(warm):
    model, x = biased(warm)
    net = trace(model, (x,))
    turned = net.permute(heads(net), [2, 0, 3, 1]).to_model()
    assert type(turned) is Biased
    torch.testing.assert_close(turned(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("warm", [False, True])
def test_the_search_for_a_reading_leaves_nothing_behind(warm):
    model, x = biased(warm)
    net = trace(model, (x,))
    small = net.remove(heads(net), [1]).to_model()
    assert type(small) is Biased
    assert not small.kept
    assert small.heads == 3
    assert small(x).shape == (2, 3, 3)


def test_a_module_pruned_in_place_starts_without():
    model, x = biased(warm=True)
    small = trace(model, (x,)).remove(heads(trace(model, (x,))), [1])
    expected = small.to_model()(x)
    small.to_model(into=model)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_tracing_leaves_nothing_in_the_model():
    model, x = biased(False)
    trace(model, (x,))
    assert not model.kept
    model.train()
    trace(model, (x,))
    assert model.training


def test_forgetting_keeps_flags_and_constants():
    model, _ = biased(True)
    model.out.train()
    model.names = ["a"]
    forget(model)
    assert not model.kept
    assert (model.training, model.out.training, model.qkv.training) == (False, True, False)
    assert model.names == ["a"]


def test_the_callers_random_numbers_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    outputs(model, ((torch.ones(1, 3),), {}))
    assert torch.equal(torch.rand(2), expected)


def flags(model):
    return [module.training for module in model.modules()]


class Frozen(nn.BatchNorm1d):
    """A norm that stays in evaluation mode, whatever the model does."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class Normed(nn.Sequential):
    def __init__(self, norm: type = nn.BatchNorm1d) -> None:
        super().__init__(nn.Linear(3, 4), norm(4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_flags_come_back_one_by_one_also_after_an_error():
    model = Normed()
    model[2].eval()
    before = flags(model)

    def fail(context):
        with context(model):
            assert not any(flags(model))
            raise ZeroDivisionError

    for context in (evaluation, quiet_evaluation, undisturbed):
        with pytest.raises(ZeroDivisionError):
            fail(context)
        assert flags(model) == before
    with in_mode(model, training=True):
        assert all(flags(model))
    assert flags(model) == before


def test_a_module_with_a_mode_of_its_own_keeps_it():
    model = Normed(Frozen).eval()
    with in_mode(model, training=True):
        assert flags(model) == [True, True, False, True, True]
    assert not any(flags(model))


def test_an_exported_graph_follows_in_its_calls_and_comes_back():
    model = graph_model(trace(Normed(), (torch.randn(5, 3),)))
    assert isinstance(model, ExportedModule)
    x = torch.randn(64, 3)
    for before in (True, False):
        model.train(before)
        mean = model.get_buffer("1.running_mean").clone()
        with in_mode(model, training=not before):
            model(x)
        changed = not torch.equal(model.get_buffer("1.running_mean"), mean)
        assert changed is not before
        mean = model.get_buffer("1.running_mean").clone()
        model(x)
        assert torch.equal(model.get_buffer("1.running_mean"), mean) is not before


def test_graphs_that_refuse_to_be_trained_get_their_flags():
    program = torch.export.export(nn.Sequential(nn.Linear(3, 2)), (torch.randn(2, 3),))
    model = program.module()
    before = flags(model)
    with in_mode(model, training=not before[0]):
        assert model.training is not before[0]
    assert flags(model) == before


def test_buffers_gradients_and_configurations_come_back():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(use_cache=True)
            self.register_buffer("calls", torch.zeros(()))
            self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            assert not self.config.use_cache
            return x * self.weight

    model = Counting()
    with undisturbed(model):
        model.weight.requires_grad_(True)
        run(model, torch.ones(3)).sum().backward()
        assert int(model.calls) == 1
    assert int(model.calls) == 0
    assert not model.weight.requires_grad
    assert model.config.use_cache


@pytest.mark.parametrize("batch", [torch.ones(2), (torch.ones(2),), {"x": torch.ones(2)}])
def test_a_batch_is_a_tensor_arguments_or_keywords(batch):
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    assert run(Twice(), batch).tolist() == [2, 2]
