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
    """One call of a linear map or convolution.

    Args:
        input: what the weight is applied to.
        weight: (out, in, taps...).
        channel_dim: dimension of the input that carries channels.
        stride, padding, dilation, groups: of a convolution, as they were passed.
    """

    input: torch.Tensor
    weight: torch.Tensor
    channel_dim: int
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def function_name(function: Any) -> str:
    """`conv2d` for `torch.nn.functional.conv2d` and for `torch.ops.aten.conv2d.default` alike."""
    return getattr(function, "__name__", "").partition(".")[0]


class LinearCalls(TorchFunctionMode):
    """Inside this context, `watch` sees every linear map and convolution before it is computed.

    `after`, if given, sees it again with its output, and may give another one in its place.
    """

    def __init__(
        self,
        watch: Callable[[Call], None] | None = None,
        after: Callable[[Call, torch.Tensor], torch.Tensor | None] | None = None,
    ) -> None:
        super().__init__()
        self._watch = watch
        self._after = after

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Report the call, then make it."""
        channel_dim = CHANNEL_DIM.get(function_name(function))
        if channel_dim is None:
            return function(*args, **(kwargs or {}))
        given = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {})
        given.pop("bias", None)
        call = Call(channel_dim=channel_dim, **given)
        if self._watch is not None:
            self._watch(call)
        output = function(*args, **(kwargs or {}))
        if self._after is not None:
            other = self._after(call, output)
            return output if other is None else other
        return output


def input_rows(call: Call) -> torch.Tensor:
    """What every row of the weight matrix is multiplied by, one sample a row.

    Args:
        call: a linear map, or a convolution in any number of dimensions. The groups of a grouped
            convolution count as separate samples, so that statistics are averages over groups.

    Returns:
        (samples, taps·in / groups), columns in the order of `pruners.solvers.as_matrix`.
    """
    x = call.input.detach()
    if call.channel_dim == -1:
        return x.flatten(0, -2)
    taps = call.weight.shape[2:]
    n = len(taps)
    stride, dilation = _each(call.stride, n), _each(call.dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    sides: list[int] = []
    for total, amount in zip(reach, _padding(call.padding, reach), strict=True):
        left = total // 2 if call.padding == "same" else amount
        right = total - left if call.padding == "same" else amount
        sides = [left, right, *sides]  # `pad` wants the last dimension first
    x = torch.nn.functional.pad(x.unflatten(1, (call.groups, -1)), sides)
    for i in range(n):  # (batch, groups, in, *places, *taps)
        x = x.unfold(3 + i, reach[i] + 1, stride[i])[..., :: dilation[i]]
    x = x.movedim(2, -1)  # (batch, groups, *places, *taps, in)
    return x.flatten(n + 2).flatten(0, n + 1)


def _each(value: Any, n: int) -> list[int]:
    listed = list(value) if isinstance(value, (tuple, list)) else [value]
    return listed * n if len(listed) == 1 else listed


def _padding(padding: Any, reach: list[int]) -> list[int]:
    return [0] * len(reach) if isinstance(padding, str) else _each(padding, len(reach))
