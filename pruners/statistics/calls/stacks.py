"""Stacks of matrices in one parameter, (slices, ·, ·), as mixtures of experts hold them.

A model may multiply with one slice, with all of them at once, or with those that it looks up for
every token. Which slice meets which place of the input is told from the tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

LOOKED_UP = "_metaprune_looked_up"
"""Attribute of a tensor that was looked up in a stack: (the stack, the slices)."""


def part_of(matrix: torch.Tensor) -> tuple[nn.Parameter, int, bool] | None:
    """The stack that a matrix is a slice of, its number there, and whether it is turned."""
    stack = matrix._base
    if not isinstance(stack, nn.Parameter) or stack.ndim != 3 or matrix.ndim != 2:
        return None
    shape, steps = tuple(matrix.shape), matrix.stride()
    own, strides = tuple(stack.shape[1:]), stack.stride()
    if (shape, steps) == (own, strides[1:]):
        turned = False
    elif (shape[::-1], steps[::-1]) == (own, strides[1:]):
        turned = True
    else:
        return None
    index, rest = divmod(matrix.storage_offset() - stack.storage_offset(), strides[0])
    return None if rest else (stack, index, turned)


def slices_of(
    weight: torch.Tensor, x: torch.Tensor, channel_dim: int, ends: torch.Tensor | None
) -> tuple[nn.Parameter, bool, torch.Tensor] | None:
    """The stack behind the weight of a batched product, whether its slices are turned, and which
    slice meets each place of the input, (places,), int64.

    Args:
        weight: a factor.
        x: the other one.
        channel_dim: of `x`, −1 or −2.
        ends: where the places of each slice end; None for a batch of products.
    """
    found = _stack_of(weight)
    if found is None:
        return None
    stack, turned, numbers = found
    if ends is not None:
        if x.ndim != 2 or channel_dim != -1:
            return None
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        counts = (ends - starts).long()
        if int(counts.sum()) != len(x):  # what lies behind the last slice meets none
            return None
        return stack, turned, torch.arange(len(stack), device=x.device).repeat_interleave(counts)
    if x.ndim != 3 or x.shape[0] != len(numbers):
        return None
    return stack, turned, numbers.repeat_interleave(x.shape[-3 - channel_dim])


def _stack_of(weight: torch.Tensor) -> tuple[nn.Parameter, bool, torch.Tensor] | None:
    """The stack, whether its slices are turned in this view, and the slices that are there."""
    whole = weight if weight._base is None else weight._base
    stack, numbers = getattr(whole, LOOKED_UP, (whole, None))
    if not isinstance(stack, nn.Parameter) or weight.ndim != 3 or whole.ndim != 3:
        return None
    if weight.shape == whole.shape and weight.stride() == whole.stride():
        turned = False
    elif weight.mT.shape == whole.shape and weight.mT.stride() == whole.stride():
        turned = True
    else:
        return None
    if numbers is None:
        numbers = torch.arange(len(stack), device=stack.device)
    return stack, turned, numbers


def note_gathered(name: str, args: tuple, kwargs: Mapping[str, Any], found: Any) -> Any:
    """Remember, with what a function returns, the slices of a stack that it looked up.

    Args:
        name: of the function.
        args, kwargs: its arguments.
        found: what it returned; given back.
    """
    if name not in ("__getitem__", "index", "index_select") or len(args) < 2:
        return found
    stack, numbers = args[0], args[-1]
    if isinstance(numbers, tuple | list) and len(numbers) == 1:
        numbers = numbers[0]
    along = args[1] if name == "index_select" else 0
    if (
        isinstance(stack, nn.Parameter)
        and stack.ndim == 3
        and isinstance(numbers, torch.Tensor)
        and numbers.ndim == 1
        and numbers.dtype in (torch.int32, torch.int64)
        and along == 0
        and isinstance(found, torch.Tensor)
    ):
        setattr(found, LOOKED_UP, (stack, numbers))
    return found
