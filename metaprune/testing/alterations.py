"""Networks with other values on purpose: wide, lively, with dead units, with units reordered."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from graphs import Network, Tensor
from graphs.axes.dims import Fixed, kept_positions, size, unit_index

WIDE: dict[Any, torch.dtype] = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
"""Dtype → the dtype in which laws are tested."""

# Larger constants stand for infinity.
_MASK = 1e4


def raised(net: Network) -> Network:
    """The network with its values in float64 (complex128)."""
    return net.replace({name: widened(tensor.value) for name, tensor in net.tensors.items()})


def widened(value: torch.Tensor) -> torch.Tensor:
    """A tensor in float64 (complex128); other dtypes stay."""
    return value.to(WIDE.get(value.dtype, value.dtype))


def lively(net: Network, generator: torch.Generator) -> Network:
    """The network with random weights of gain O(1), so that every unit matters to the output.

    With the small weights of a fresh network a wrong graph looks right to many digits. Constants
    keep their size, so that logarithms and roots of them exist, but not their regularity: a class
    token of zeros has every symmetry.
    """
    return net.replace({name: _drawn(net, t, generator) for name, t in net.tensors.items()})


def _drawn(net: Network, tensor: Tensor, generator: torch.Generator) -> torch.Tensor:
    value = tensor.value
    if not value.is_floating_point():
        return value
    normal = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    uniform = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
    if tensor.role == "constant":
        if not bool(value.any()):
            return 0.3 * normal.to(value)
        return torch.where(value.abs() < _MASK, value * uniform.to(value), value)
    if tensor.role in ("scale", "running_var"):
        return uniform.to(value)
    if tensor.role == "weight":
        return (normal / _fan_in(net, tensor) ** 0.5).to(value)
    return (normal if tensor.role == "embedding" else 0.3 * normal).to(value)


def _fan_in(net: Network, tensor: Tensor) -> int:
    """Entries that one output of a weight reads: inputs and, of a kernel, taps."""
    read = [
        size(dim, net.axes)
        for i, dim in enumerate(tensor.dims)
        if i in tensor.reading or isinstance(dim, Fixed)
    ]
    return max(1, prod(read))


def kill(net: Network, axis: str, units: torch.Tensor) -> Network:
    """The network with units zero at every producer: weights' rows, biases, scales, statistics.

    Args:
        net: the network.
        axis: name of the axis.
        units: indices of the units to zero.
    """
    values = {}
    for name, tensor in net.tensors.items():
        value = tensor.value
        for i in tensor.makes(axis) if tensor.role != "running_var" else ():
            hit = torch.isin(unit_index(tensor.dims[i], axis, net.axes), units).nonzero().flatten()
            value = value.index_fill(i, hit.to(value.device), 0)
        values[name] = value
    return net.replace(values)


def permuted(net: Network, orders: Mapping[str, torch.Tensor], only: str | None = None) -> Network:
    """Units of several axes reordered at once, in all tensors or (a broken symmetry) in one."""
    names = net.tensors if only is None else [only]
    return net.replace({name: reordered(net, name, orders) for name in names})


def reordered(
    net: Network, name: str, orders: Mapping[str, torch.Tensor], value: torch.Tensor | None = None
) -> torch.Tensor:
    """One tensor, or a value of its shape, with the units of its axes reordered."""
    tensor = net.tensors[name]
    value = tensor.value if value is None else value
    for i, dim in enumerate(tensor.dims):
        index = kept_positions(dim, orders, net.axes)
        if index is not None:
            value = value.index_select(i, index.to(value.device))
    return value
