"""Results of calls that need not be computed while only shapes are asked for.

Convolutions, linear layers and batch norms are most of a forward's work, and nothing in a recording
depends on what they give: a forward that looks at values is not recorded at all.
"""

from __future__ import annotations

from typing import Any

import torch

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
    made = function(shape_of(x), shape_of(weight), None, *args[3:])
    zeros = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device=x.device)
    return zeros.zero_()


def _normed(x: torch.Tensor, *others: Any) -> torch.Tensor | None:
    """Zeros for a batch norm that leaves its statistics alone."""
    *vectors, training = others
    given = [v for v in vectors if v is not None]
    fits = x.dim() > 1 and all(
        v.shape == x.shape[1:2] and v.dtype == x.dtype and v.device == x.device for v in given
    )
    return torch.zeros_like(x) if fits and not training else None


def shape_of(tensor: torch.Tensor) -> torch.Tensor:
    """Shape, strides and dtype without values."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
