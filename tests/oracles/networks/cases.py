"""Small models around one operator each, with the axes that must stay free and why others are not.

`free` names every axis that can be cut, with its class of exactness after a colon (`exact` when
left out); `frozen` gives, for the axes that the operator freezes, a pattern of the reason. Axes of
inputs and outputs of the model need no mention. What is not declared fails the test, so coverage
can neither shrink nor grow unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Build = Callable[[], tuple[nn.Module, Any]]


@dataclass(frozen=True)
class Case:
    build: Build
    free: dict[str, str]
    frozen: dict[str, str]


CASES: dict[str, Case] = {}


def case(free: str = "", **frozen: str) -> Callable[[Build], Build]:
    """Register a builder; keywords name frozen axes, with `__` for a dot."""

    def register(build: Build) -> Build:
        assert build.__name__ not in CASES, f"two cases {build.__name__}"
        names = (entry.partition(":") for entry in free.split())
        CASES[build.__name__] = Case(
            build,
            {name: kind or "exact" for name, _, kind in names},
            {name.replace("__", "."): why for name, why in frozen.items()},
        )
        return build

    return register


class Model(nn.Module):
    """A forward over named parts: `Model(lambda m, x: m.b(m.a(x)), a=..., b=...)`."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Any, y: Any = None, z: Any = None) -> Any:
        return self.function(self, *(v for v in (x, y, z) if v is not None))


def sequence(features: int = 4, length: int = 5) -> torch.Tensor:
    return torch.randn(2, length, features)


def picture(channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randn(2, channels, size, size)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))
