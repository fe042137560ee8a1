"""Traced networks shared by the tests of this room."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

from graphs import Network, trace
from tests.pruners.networks import Attention, ResidualCNN, mlp, randomized


@dataclass(frozen=True)
class Case:
    """A float64 model, its network, and inputs."""

    model: nn.Module
    net: Network
    inputs: tuple[torch.Tensor, ...]


MAKERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[torch.Tensor, ...]]]] = {
    "mlp": (mlp, lambda: (torch.randn(4, 6, dtype=torch.float64),)),
    "cnn": (ResidualCNN, lambda: (torch.randn(4, 3, 6, 6, dtype=torch.float64),)),
    "attention": (Attention, lambda: (torch.arange(12).reshape(2, 6) % 11,)),
}


def make(name: str, seed: int = 0) -> Case:
    """A case whose model may be changed; tracing happens once."""
    found = _traced(name, seed)
    return Case(copy.deepcopy(found.model), found.net, found.inputs)


@cache
def _traced(name: str, seed: int) -> Case:
    build, inputs = MAKERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = randomized(build().double(), seed)
        example = inputs()
    return Case(model, trace(model, example), example)


@pytest.fixture(params=sorted(MAKERS))
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


@pytest.fixture
def cnn() -> Case:
    return make("cnn")


@pytest.fixture
def dense_mlp() -> Case:
    return make("mlp")


def removed(net: Network, kept: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Kept indices as the indices that `Network.remove` wants."""
    gone = {}
    for axis, indices in kept.items():
        mask = torch.ones(net.axes[axis].size, dtype=torch.bool)
        mask[indices] = False
        gone[axis] = mask.nonzero().flatten()
    return gone
