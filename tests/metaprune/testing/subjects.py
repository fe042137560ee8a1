"""Networks that are right, and networks that are wrong on purpose, for tests of the laws."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from graphs import Network, trace
from metaprune import testing
from metaprune.testing.subject import prepared


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 5),
    ).eval()


def image() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def double() -> tuple[Network, tuple[torch.Tensor]]:
    inputs = (image()[0].double(),)
    return trace(cnn().double(), inputs), inputs


def with_tensor(net: Network, name: str, **changes: object) -> Network:
    tensors = {**net.tensors, name: replace(net.tensors[name], **changes)}
    return replace(net, tensors=MappingProxyType(tensors))


def freed(net: Network, name: str, exactness: str = "exact") -> Network:
    """The network with a frozen axis declared free."""
    axes = {**net.axes, name: replace(net.axes[name], frozen=None, exactness=exactness)}
    return replace(net, axes=MappingProxyType(axes))


def assert_broken(net: Network, inputs: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        testing.assert_permutation_invariant(net, inputs)


def called(net: Network, exactness: str) -> Network:
    """The network with all free axes declared to be of one class."""
    axes = {n: a if a.frozen else replace(a, exactness=exactness) for n, a in net.axes.items()}
    return replace(net, axes=MappingProxyType(axes))


def lively_net(*layers: nn.Module, width: int = 4) -> tuple[Network, tuple[torch.Tensor]]:
    subject = prepared(nn.Sequential(*layers), (torch.randn(3, width),), 0)
    return subject.net, subject.inputs[0]
