"""Curvature at the end of a block: that of the layer that ends it, where one does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.statistics import Likelihood, collect
from pruners.statistics import borders as room
from pruners.statistics.borders import borders
from tests.pruners.networks import randomized

LIKELIHOOD = Likelihood(temperature=1.0, draws=2)


class Ended(nn.Module):
    """A block that a linear map or convolution ends."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x):
        return self.last(self.first(x).relu())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Ended(nn.Linear(6, 9), nn.Linear(9, 6)) for _ in range(3))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Images(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Ended(nn.Conv2d(6, 9, 3, padding=1), nn.Conv2d(9, 6, 1)) for _ in range(3)
        )

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


CASES = {"tokens": (Tokens, (5, 7, 6)), "images": (Images, (5, 6, 4, 4))}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_curvature_of_the_layer_that_ends_the_block(case: str) -> None:
    make, shape = CASES[case]
    model = randomized(make()).eval()
    batches = [(torch.randn(shape, generator=torch.Generator().manual_seed(i)),) for i in range(2)]
    blocks = dict(model.blocks.named_children())
    named = {f"blocks.{name}": block for name, block in blocks.items()}
    found = borders(model, batches, named, LIKELIHOOD)
    weights = [f"{name}.last.weight" for name in named]
    curved = collect(model, batches, weights, ("curvature",), likelihood=LIKELIHOOD)
    assert [border.name for border in found] == list(named)
    for border, weight in zip(found, weights, strict=True):
        wanted = curved.tensors()[weight]["curvature"]
        assert border.calls == 1
        torch.testing.assert_close(border.curvature, wanted.to(border.curvature))


class Twice(Tokens):
    """Every block is called twice."""

    def forward(self, x):
        for block in [*self.blocks, *self.blocks]:
            x = block(x)
        return self.head(x)


class Decided(Tokens):
    """No gradient reaches the blocks."""

    def forward(self, x):
        return super().forward(x).argmax(-1)


def test_calls_are_counted() -> None:
    model = randomized(Twice()).eval()
    found = borders(model, [(torch.randn(5, 7, 6),)], dict(model.blocks.named_children()))
    assert [border.calls for border in found] == [2, 2, 2]


def test_without_scores_there_is_no_curvature() -> None:
    model = randomized(Decided()).eval()
    found = borders(model, [(torch.randn(5, 7, 6),)], dict(model.blocks.named_children()))
    assert [border.name for border in found] == ["0", "1", "2"]
    assert all(border.curvature is None for border in found)


def test_none_is_kept_of_many_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LARGEST", 5)
    model = randomized(Tokens()).eval()
    found = borders(model, [(torch.randn(5, 7, 6),)], dict(model.blocks.named_children()))
    assert all(border.curvature is None for border in found)


def test_the_model_is_left_as_it_was() -> None:
    model = randomized(Tokens()).train()
    borders(model, [(torch.randn(5, 7, 6),)], dict(model.blocks.named_children()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert not any(block._forward_hooks for block in model.blocks)
