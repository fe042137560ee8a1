"""The nodes of a program that an axis runs through."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from graphs.axes.dims import Dim, all_atoms
from graphs.relate.structure import Structure
from graphs.rules.registry import known_of


def dims_of(net: Structure, node: fx.Node) -> tuple[Dim, ...]:
    """Dimensions of a tensor or value; of a call with several results, one after another."""
    if node.op == "get_attr":
        tensor = net.tensors.get(str(node.target))
        return tensor.dims if tensor else ()
    return net.program.dims.get(node.name, ())


def nodes_by_axis(net: Structure) -> dict[str, list[fx.Node]]:
    """Axis → the nodes that run along it or whose operands do, in order."""
    carried = {node: all_atoms(dims_of(net, node)) for node in net.program.graph.nodes}
    found: dict[str, list[fx.Node]] = {name: [] for name in net.axes}
    for node, names in carried.items():
        for name in names.union(*(carried[n] for n in node.all_input_nodes)):
            found[name].append(node)
    return found


def still_nodes(nodes: Iterable[fx.Node]) -> frozenset[fx.Node]:
    """The nodes that depend on no input of the model, but for which rows of a parameter they are.

    The matrices that a router picks from those of all experts are parameters still.
    """
    still: set[fx.Node] = set()
    picked: set[fx.Node] = set()
    for node in nodes:
        if node.op == "get_attr":
            still.add(node)
        if node.op != "call_function" or not node.all_input_nodes:
            continue
        first, *others = node.all_input_nodes
        known = known_of(node.target)
        if still.issuperset(node.all_input_nodes):
            still.add(node)
        elif first in still:
            picked |= {node} if known.picks == "number" else set()
        elif first in picked and known.turns == "each" and not others:
            picked.add(node)
    return frozenset(still | picked)
