"""Inputs and outputs of a linear map as the rows that its matrix turns into each other.

    input_blocks(call) @ matrix.mT + bias == output_blocks(output, call.channel_dim, call.groups)

with matrix the blocks of `pruners.solvers.as_matrix(call.weight, call.rows)`: one for each group of
a convolution, and one in all otherwise. Two kinds of calls are laid out otherwise:

- Slices of a stack are blocks too, but each place meets one of them: `of_slices`.
- Groups of a transposed convolution lie in the columns, and all have the same rows: `column_blocks`
  says which columns are whose, and the matrix is zero, for a group, in those of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pruners.statistics.calls.linear import Call


def input_blocks(call: Call) -> torch.Tensor:
    """(groups, samples, taps·in / groups): what the matrix of each group is multiplied by.

    Of a stack, (1, places, in): every place once, whichever slice it meets.
    """
    x = call.input.detach()
    if not call.taps:
        return x.movedim(call.channel_dim, -1).reshape(1, -1, x.shape[call.channel_dim])
    n = len(call.taps)
    if x.ndim == n + 1:  # a single example
        x = x[None]
    stride, dilation = _each(call.stride, n), _each(call.dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilation, call.taps, strict=True)]
    if call.transposed:
        x, sides = _spread(call, x, stride, reach), _transposed_sides(call, reach)
        stride = [1] * n
    else:
        sides = _sides(call.padding, reach)
    x = torch.nn.functional.pad(x.unflatten(1, (call.groups, -1)), sides)
    for i in range(n):  # (batch, groups, in, *places, *taps)
        x = x.unfold(3 + i, reach[i] + 1, stride[i])[..., :: dilation[i]]
    if call.transposed:
        x = x.flip(tuple(range(-n, 0)))
    x = x.movedim(2, -1).movedim(1, 0)  # (groups, batch, *places, *taps, in)
    return x.flatten(n + 2).flatten(1, n + 1)


def of_slices(rows: torch.Tensor, call: Call) -> Iterator[torch.Tensor]:
    """Rows of places, (places, ·), as each slice of a stack meets them: (its places, ·)."""
    assert call.slices is not None
    order = call.slices.argsort(stable=True)
    counts = call.slices.bincount(minlength=call.groups).tolist()
    return iter(rows[order].split(counts))


def column_blocks(call: Call) -> torch.Tensor:
    """Columns of the matrix that belong to each group, (groups, taps·in / groups), ascending."""
    inputs, size = call.weight.shape[call.input_dim], call.weight.numel()
    taps = size // inputs // call.weight.shape[1 - call.input_dim]
    columns = torch.arange(taps * inputs, device=call.weight.device).reshape(taps, call.groups, -1)
    return columns.transpose(0, 1).flatten(1)


def output_blocks(output: torch.Tensor, channel_dim: int, groups: int) -> torch.Tensor:
    """(groups, samples, out / groups): outputs, or gradients at them, sample by sample as inputs.

    Args:
        output: in the layout of a call's output.
        channel_dim, groups: of the call.
    """
    rows = output_rows(output, channel_dim)
    return rows.unflatten(1, (groups, -1)).transpose(0, 1)


def output_rows(output: torch.Tensor, channel_dim: int) -> torch.Tensor:
    """(places, out): outputs, or gradients at them, place by place."""
    rows = output.movedim(channel_dim, -1)
    return rows.reshape(-1, rows.shape[-1])


def _spread(call: Call, x: torch.Tensor, stride: list[int], reach: list[int]) -> torch.Tensor:
    """The input of a transposed convolution with the zeros between its places that stride means."""
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *sizes)
    wide[(..., *(slice(None, None, step) for step in stride))] = x
    return wide


def _transposed_sides(call: Call, reach: list[int]) -> list[int]:
    padding, extra = _each(call.padding, len(reach)), _each(call.output_padding, len(reach))
    sides: list[int] = []
    for total, less, more in zip(reach, padding, extra, strict=True):
        sides = [total - less, total - less + more, *sides]
    return sides


def _sides(padding: Any, reach: list[int]) -> list[int]:
    """Zeros before and after every dimension, the last one first, as `pad` wants them."""
    amounts = [0] * len(reach) if isinstance(padding, str) else _each(padding, len(reach))
    sides: list[int] = []
    for total, amount in zip(reach, amounts, strict=True):
        left = total // 2 if padding == "same" else amount
        right = total - left if padding == "same" else amount
        sides = [left, right, *sides]
    return sides


def _each(value: Any, n: int) -> list[int]:
    listed = list(value) if isinstance(value, (tuple, list)) else [value]
    return listed * n if len(listed) == 1 else listed
