"""A twin of removal that removes nothing: dead units stay, statistics are taken without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from graphs import Axis, Network
from graphs.axes.dims import Dim, kept_positions, size
from graphs.calls.running import quiet_evaluation
from graphs.rules.registry import known_of, operator_name
from graphs.symmetries.nodes import dims_of
from metaprune.testing.subject import Outputs, Subject


def masked_statistics(
    subject: Subject, masked: Network, small: Network, kept: Mapping[str, torch.Tensor]
) -> Outputs:
    """Outputs of the masked network, with statistics computed over the kept units alone.

    The full-size program runs; only norms and means see the kept positions of their operands, with
    the arguments of the smaller program, and their results are put back between zeros. Numbers that
    removal adjusts (scales and ε of root-mean-square norms) are taken from the smaller network.

    Args:
        subject: inputs and dtype.
        masked: a network whose units outside `kept` are dead.
        small: the same without them.
        kept: axis → units that stay.

    Raises:
        Exception: whatever an operator raises that cannot be split in this way.
    """
    full: Any = subject.program(_with_scales_of(small, masked, kept))
    smaller = {node.name: node for node in _nodes(subject.program(small))}

    class Masked(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            twin = smaller[n.name]
            if n.op != "call_function":
                return super().run_node(n)
            if not (_takes_statistics(n) and _touched(masked, n, kept)):
                args = fx.node.map_arg(_with_numbers_of(twin.args, n.args), self._held)
                return n.target(*args, **fx.node.map_arg(n.kwargs, self._held))
            operands = {
                m.name: _cut(self.env[m], dims_of(masked, m), kept, masked.axes)
                for m in n.all_input_nodes
            }
            args, kwargs = fx.node.map_arg((twin.args, twin.kwargs), lambda m: operands[m.name])
            result = n.target(*args, **kwargs)
            along = dims_of(masked, n)
            if isinstance(result, torch.Tensor):
                return _spread(result, along, kept, masked.axes)
            # Of several results the first one is the value, the others are its statistics.
            first = _spread(result[0], along[: result[0].dim()], kept, masked.axes)
            return (first, *result[1:])

        def _held(self, node: fx.Node) -> Any:
            return self.env[node]

    with quiet_evaluation(full), torch.no_grad():
        found = Masked(full).run(*pytree.tree_leaves(subject.inputs), enable_io_processing=False)
    return [v for v in pytree.tree_leaves(found) if isinstance(v, torch.Tensor)]


def _nodes(module: Any) -> list[fx.Node]:
    return list(module.graph.nodes)


def _with_scales_of(small: Network, masked: Network, kept: Mapping[str, torch.Tensor]) -> Network:
    """The masked network with the scales that removal adjusted, at the units that stay."""
    names = {rescale.tensor for rescale in masked.program.rescales}
    values = {}
    for name in names:
        tensor = masked.tensors[name]
        value = small.tensors[name].value
        values[name] = _spread(value, tensor.dims, kept, masked.axes)
    return masked.replace(values)


def _with_numbers_of(twin: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
    pairs = zip(twin, args, strict=True)
    return tuple(t if isinstance(a, float) and isinstance(t, float) else a for t, a in pairs)


def _takes_statistics(node: fx.Node) -> bool:
    """Whether a result depends on how many positions there are along a dimension."""
    known = known_of(node.target)
    # A batch norm in training mode, over a weight: weight standardisation.
    training = known.normalises and known.training is not None and node.args[known.training] is True
    # Zeros add nothing to the length of a vector, but those of a weight's columns are none.
    return known.statistic or training or operator_name(node.target) == "linalg_vector_norm"


def _touched(net: Network, node: fx.Node, kept: Mapping[str, torch.Tensor]) -> bool:
    return any(
        kept_positions(dim, kept, net.axes) is not None
        for operand in node.all_input_nodes
        for dim in dims_of(net, operand)
    )


def _cut(
    value: Any, dims: tuple[Dim, ...], kept: Mapping[str, torch.Tensor], axes: Mapping[str, Axis]
) -> Any:
    for i, dim in enumerate(dims):
        index = kept_positions(dim, kept, axes)
        if index is not None:
            value = value.index_select(i, index.to(value.device))
    return value


def _spread(
    value: torch.Tensor,
    dims: tuple[Dim, ...],
    kept: Mapping[str, torch.Tensor],
    axes: Mapping[str, Axis],
) -> torch.Tensor:
    """The inverse of `_cut`, with zeros between."""
    for i, dim in enumerate(dims):
        index = kept_positions(dim, kept, axes)
        if index is not None:
            shape = [size(dim, axes) if j == i else n for j, n in enumerate(value.shape)]
            value = value.new_zeros(shape).index_copy(i, index.to(value.device), value)
    return value
