"""Results of calls that need not be computed while only shapes are asked for.

Convolutions, linear layers and batch norms are most of a forward's work, and where its calls are
written down or followed, nothing depends on what they give: a forward that looks at values is
neither recorded nor followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

# Those that this file has formulas for, told by what is called: no other knows their layouts.
_CONVOLUTIONS = {getattr(torch.ops.aten, f"conv{n}d").default for n in (1, 2, 3)}
_LINEAR = torch.ops.aten.linear.default
_BATCH_NORM = torch.ops.aten.batch_norm.default


def stand_in(function: Any, args: tuple[Any, ...]) -> torch.Tensor | None:
    """Zeros of the shape, strides, dtype and device that a call gives; None where it must run.

    Args:
        function: an ATen operator.
        args: its positional arguments.

    Raises:
        RuntimeError: shapes that do not fit, as the call itself would.
    """
    if function is _BATCH_NORM:
        return _normed(*args[:6])
    if function is not _LINEAR and function not in _CONVOLUTIONS:
        return None
    x, weight = args[:2]
    bias = args[2] if len(args) > 2 else None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    if any(t.dtype != x.dtype or t.device != x.device for t in (weight, bias) if t is not None):
        return None
    if function is _LINEAR:
        fits = x.dim() and weight.dim() == 2 and x.shape[-1] == weight.shape[1]
        if not fits or not x.is_contiguous():
            return None
        return x.new_zeros((*x.shape[:-1], weight.shape[0]))
    if not x.is_contiguous() or not weight.is_contiguous():
        return None  # the layout of the result is up to the kernel
    shape = _convolved(x, weight, *args[3:])
    if shape is not None:
        return x.new_zeros(shape)
    made = function(shape_of(x), shape_of(weight), None, *args[3:])
    zeros = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device=x.device)
    return zeros.zero_()


def _convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> list[int] | None:
    """The shape of a convolution's result; None where it takes more than the usual formula.

    The formula of the documentation of `torch.nn.Conv2d`, which is much quicker than torch's own
    function for shapes.
    """
    batch, channels, *sizes = x.shape
    out, inner, *kernel = weight.shape
    if len(sizes) != len(kernel) or channels != inner * groups or out % groups:
        return None
    # Where no size is 1, a contiguous tensor is in the order of its dimensions.
    if any(1 in t.shape[1:] and not _plain(t) for t in (x, weight)):
        return None
    shape = [batch, out]
    for i, (n, k) in enumerate(zip(sizes, kernel, strict=True)):
        step, pad, apart = (v[i] if len(v) > 1 else v[0] for v in (stride, padding, dilation))
        shape.append((n + 2 * pad - apart * (k - 1) - 1) // step + 1)
    return shape if min(shape) > 0 else None


def _plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is in the order of its dimensions, by its strides.

    `is_contiguous` is true of tensors in the order channels last as well, where sizes are 1.
    """
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        if stride != step:
            return False
        step *= size
    return True


def _normed(x: torch.Tensor, *others: Any) -> torch.Tensor | None:
    """Zeros for a batch norm that leaves its statistics alone."""
    *vectors, training = others
    if training or x.dim() < 2:
        return None
    shape, dtype, device = x.shape[1:2], x.dtype, x.device
    for v in vectors:
        if v is not None and (v.shape != shape or v.dtype != dtype or v.device != device):
            return None
    return torch.zeros_like(x)


def shape_of(tensor: torch.Tensor) -> torch.Tensor:
    """Shape, strides and dtype without values; one meta tensor for all that are alike."""
    return _shape(tensor.shape, tensor.stride(), tensor.dtype)


@lru_cache(maxsize=4096)
def _shape(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(sizes, strides, dtype=dtype, device="meta")
