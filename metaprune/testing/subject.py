"""What laws are tested on: a network in float64 with weights of gain O(1), and its function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from graphs import Axis, Network, Tensor, trace
from graphs.axes.dims import Fixed, kept_positions, size, unit_index
from graphs.build.rebuild import graph_model
from graphs.calls.running import as_inputs, outputs

_WIDE: dict[Any, torch.dtype] = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
# Larger constants stand for infinity.
_MASK = 1e4
Outputs = list[torch.Tensor]


@dataclass
class Subject:
    """A network under test.

    Args:
        net: its axes and tensors; the values are what is tested.
        inputs: as (args, kwargs), in the dtype of the test.
        generator: for permutations, scales and the choice of units.
        wide: whether everything is computed in float64, whatever dtype the forward asks for.
    """

    net: Network
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    generator: torch.Generator
    wide: bool

    def function(self, net: Network) -> Outputs:
        """The outputs of a network of any shape.

        Raises:
            AssertionError: its program does not run.
        """
        return self.run(self.program(net))

    def program(self, net: Network) -> nn.Module:
        """The traced program over a network's tensors, in the dtype of the test."""
        module: Any = graph_model(net, widen=self.wide)
        if not self.wide:
            return module
        for node in module.graph.nodes:
            node.args = _widened(node.args)
            node.kwargs = _widened(node.kwargs)
        for name in net.program.constants:
            if name in module._buffers:
                module._buffers[name] = _raised(module._buffers[name])
        module.recompile()
        return module

    def run(self, module: nn.Module) -> Outputs:
        """The tensors that a program returns; `AssertionError` where it does not run."""
        found = outputs(module, self.inputs)
        if isinstance(found, Exception):
            raise AssertionError(
                f"the program does not run: {type(found).__name__}: {found}"
            ) from found
        return found

    def same_shape(self) -> Callable[[Network], Outputs]:
        """The function of networks of the original shapes: one program, other values."""
        module = self.program(self.net)

        def call(net: Network) -> Outputs:
            values = {name: tensor.value for name, tensor in net.tensors.items()}
            return self.run(_Bound(module, values))

        return call

    def free(self) -> list[Axis]:
        """The axes that may be permuted."""
        return [axis for axis in self.net.axes.values() if axis.frozen is None]


def _widened(arguments: Any) -> Any:
    return fx.node.map_aggregate(
        arguments, lambda a: _WIDE.get(a, a) if isinstance(a, torch.dtype) else a
    )


class _Bound(nn.Module):
    """A module with other tensors in it for the time of a call."""

    def __init__(self, module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.module, self.values = module, values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.module, dict(self.values), args, kwargs)


def prepared(subject: nn.Module | Network, example_inputs: Any, seed: int) -> Subject:
    """A model traced, in float64 and with lively weights; a network as it is.

    Args:
        subject: a model in any dtype and on any device, which stays as it is, or a network.
        example_inputs: tuple of arguments or dict of keywords; integers stay integers.
        seed: of weights and generator.
    """
    if isinstance(subject, Network):
        generator = torch.Generator().manual_seed(seed)
        floats = [t.value.dtype for t in subject.tensors.values() if t.value.is_floating_point()]
        wide = all(dtype is torch.float64 for dtype in floats)
        return Subject(subject, as_inputs(example_inputs), generator, wide)
    return prepared_from(trace(subject, example_inputs), as_inputs(example_inputs), seed)


def prepared_from(net: Network, inputs: Any, seed: int) -> Subject:
    """A traced network in float64, with lively weights.

    Args:
        net: in any dtype.
        inputs: (args, kwargs).
        seed: of weights and generator.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = pytree.tree_map_only(torch.Tensor, _raised, inputs)
    return Subject(lively(raised(net), generator), inputs, generator, wide=True)


def raised(net: Network) -> Network:
    """The network with its values in float64 (complex128)."""
    return net.replace({name: _raised(tensor.value) for name, tensor in net.tensors.items()})


def _raised(value: torch.Tensor) -> torch.Tensor:
    return value.to(_WIDE.get(value.dtype, value.dtype))


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


def gap(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    """Largest difference of any output, relative to the largest magnitude there where above 1.

    Infinite where numbers of outputs or shapes differ, or one side is not finite and the other is.
    """
    if len(before) != len(after):
        return float("inf")
    return max((_gap(a, b) for a, b in zip(before, after, strict=True)), default=0.0)


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not a.is_floating_point() and not a.is_complex():
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    scale = max(1.0, float(a[finite].abs().max()))
    return float((a[finite] - b[finite]).abs().max()) / scale
