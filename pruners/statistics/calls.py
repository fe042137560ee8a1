"""Watching the linear maps a model computes, whatever module makes the call.

Calls are recognised by function, not by module class, so a model that uses `torch.nn.functional`
itself and an exported graph are watched like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Function → dimension of its input that carries channels. Transposed convolutions are absent on
# purpose: each of their outputs sees a part of the kernel only, so input statistics over all
# positions do not describe it.
CHANNEL_DIM = {"linear": -1, "conv1d": 1, "conv2d": 1, "conv3d": 1}


@dataclass(frozen=True)
class Call:
    """One call of a linear map: its input, its weight, and where the input carries channels."""

    input: torch.Tensor
    weight: torch.Tensor
    channel_dim: int


def function_name(function: Any) -> str:
    """`conv2d` for `torch.nn.functional.conv2d` and for `torch.ops.aten.conv2d.default` alike."""
    return getattr(function, "__name__", "").partition(".")[0]


class LinearCalls(TorchFunctionMode):
    """Inside this context, `watch` sees every linear map and convolution before it is computed."""

    def __init__(self, watch: Callable[[Call], None]) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Report the call, then make it."""
        named = kwargs or {}
        channel_dim = CHANNEL_DIM.get(function_name(function))
        if channel_dim is not None:
            value = args[0] if args else named["input"]
            weight = args[1] if len(args) > 1 else named["weight"]
            self._watch(Call(value, weight, channel_dim))
        return function(*args, **named)
