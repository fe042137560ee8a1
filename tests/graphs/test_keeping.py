"""What a forward keeps for its next call never meets other weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.calls.running import forget


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
