"""The law of sizes holds for sound results, and fails for graphs with baked sizes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.compare import other_sizes
from graphs.build.rebuild import rebuild
from graphs.calls.running import as_inputs
from graphs.relate import assembly
from metaprune import testing
from metaprune.testing.sizes import sizes_law
from tests.oracles.networks import recurrent
from tests.oracles.networks.families import build

IMAGES = torch.randn(2, 3, 8, 8)


class Halved(nn.Module):
    """Its class cannot be cut (8 is written in it), and half of the columns are read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).relu()[..., : x.shape[-1] // 2]
        return self.head(y.reshape(x.shape[0], 8, -1).mean(-1))


class Large(Halved):
    """Another function of large images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).relu()
        y = y.sqrt() if x.shape[-1] > 10 else y
        return self.head(y.reshape(x.shape[0], 8, -1).mean(-1))


class Crossed(nn.Module):
    """Whatever the size of images, of its own class when it is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


def law(model, inputs=(IMAGES,)):
    return sizes_law(trace(model, inputs), as_inputs(inputs), testing.TOLERANCE)


@pytest.mark.parametrize("kind", [Halved, Large, Crossed])
def test_it_holds(kind):
    found = law(kind())
    assert found.count >= 2
    assert not found.failures


@pytest.mark.parametrize("make", [partial(build, "vit"), recurrent.gru], ids=["vit", "gru"])
def test_it_holds_for_sequences(make):
    found = law(*make())
    assert found.count >= 2
    assert not found.failures


@pytest.mark.parametrize("kind", [Halved, Large])
def test_it_fails_where_sizes_are_not_guarded(kind, monkeypatch):
    monkeypatch.setattr(assembly, "guards_of", lambda module: None)
    assert any("differs by" in failure for failure in law(kind()).failures)
    with pytest.raises(AssertionError, match="sizes: on inputs of"):
        testing.certify(kind(), (IMAGES,)).require()


@pytest.mark.parametrize("every_size", [False, True])
def test_what_was_cut_is_right_or_refuses(every_size):
    model = Large()
    net = trace(model, (IMAGES,), every_size=every_size)
    cut = net.remove("conv.out", [0]).to_model()
    with pytest.raises(AssertionError, match=r"size\(\)\[3\]"):
        cut(torch.randn(2, 3, 8, 12))
    assert cut(torch.randn(5, 3, 8, 8)).shape == (5, 5)


class Two(Halved):
    """The number of examples is written into its program by `len`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().reshape(len(x), 8, -1).mean(-1))


def test_a_graph_of_one_number_of_examples_says_so_and_refuses_others():
    found = rebuild(trace(Two(), (IMAGES,)).remove("conv.out", [0]))
    assert any("It takes 2 examples only" in note for note in found.notes)
    with pytest.raises(AssertionError, match="Guard failed"):
        found.model(torch.randn(4, 3, 8, 8))


def test_dimensions_of_one_size_change_together():
    ids, mask = torch.arange(12).reshape(2, 6), torch.ones(2, 6)
    found = [(old, *(v.shape for v in kw.values())) for old, (_, kw) in other_sizes(
        ((), {"ids": ids, "mask": mask}), 2
    )]  # fmt: skip
    assert found == [
        *((2, (n, 6), (n, 6)) for n in (1, 3)), *((6, (2, n), (2, n)) for n in (5, 7, 12))
    ]  # fmt: skip
