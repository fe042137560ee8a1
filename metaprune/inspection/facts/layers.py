"""The forward as a list: every operator that multiplies or looks up, with the axes it joins."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from torch import fx

from graphs import Network
from graphs.axes.dims import Dim, atoms, size
from graphs.places import place_of_stack
from graphs.rules.registry import operator_name
from metaprune.inspection.facts.groups import WEIGHTS, layer_name
from metaprune.inspection.schema import Layer


def layers(net: Network) -> tuple[Layer, ...]:
    """Operators with a weight or with multiply–accumulates, in the order of the forward."""
    sizes = {name: axis.size for name, axis in net.axes.items()}
    macs: dict[str, int] = {}
    for cost in net.program.costs:
        macs[cost.node] = macs.get(cost.node, 0) + prod(size(d, sizes) for d in cost.dims)
    seen: set[str] = set()
    found = []
    for node in net.program.graph.nodes:
        held = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
        held = [name for name in held if name in net.tensors]
        weights = [name for name in held if net.tensors[name].role in WEIGHTS]
        if node.op != "call_function" or not (weights or node.name in macs):
            continue
        if node.name not in macs and operator_name(node.target) not in LOOKUPS:
            continue
        new = [name for name in held if name not in seen and name in net.source.parameters]
        seen.update(new)
        reads, writes = _axes(net, node, weights)
        found.append(
            Layer(
                name=_name(net, node, weights),
                module=net.program.modules.get(node.name, ""),
                operator=operator_name(node.target),
                place=str(place_of_stack(node.meta.get("stack_trace")) or ""),
                reads=reads,
                writes=writes,
                macs=macs.get(node.name, 0) // net.program.batch,
                params=sum(net.tensors[name].value.numel() for name in new),
            )
        )
    return tuple(found)


LOOKUPS = ("embedding", "embedding_bag")

SPOKEN = {"scaled_dot_product_attention": "attention"}
"""Operators with a shorter name."""


def _name(net: Network, node: fx.Node, weights: list[str]) -> str:
    module = net.program.modules.get(node.name, "")
    inside = [name for name in weights if name.startswith(f"{module}." if module else "")]
    if inside:
        return layer_name(inside[0])
    # A tied weight belongs to another module: this is the one that uses it here.
    operator = operator_name(node.target)
    spoken = SPOKEN.get(operator, operator)
    return module if weights and module else f"{module} · {spoken}".lstrip(" ·")


def _axes(
    net: Network, node: fx.Node, weights: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Axes along the inputs, and axes along the result."""
    dims = net.program.dims
    writes = _over(dims.get(node.name, ()))
    moving = [n for n in node.all_input_nodes if n.name in dims]
    reads = _over(d for n in moving for d in dims[n.name])
    if not reads:
        reads = dict.fromkeys(axis for name in weights for axis in net.tensors[name].axes_read)
    return tuple(reads), tuple(writes)


def _over(dims: Iterable[Dim]) -> dict[str, None]:
    return dict.fromkeys(axis for dim in dims for axis in atoms(dim))
