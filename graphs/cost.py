"""Parameters and multiply–accumulates as functions of the axis sizes.

Both are sums of products of axis sizes, so the cost of a hypothetical pruning needs no new network.
MACs are those of linear maps, convolutions, matrix products and attention, for one example; of
sequences the traced length counts. Every function takes `sizes`: axis name → number of units, where
it differs from the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import fx

from graphs.program.program import Work
from graphs.relate.structure import Structure


def sizes_of(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Number of units of every axis, where `sizes` has another number that one."""
    return {name: axis.size for name, axis in net.axes.items()} | dict(sizes or {})


def count_macs(net: Structure, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply–accumulates of one example through the whole network."""
    return sum(_totals(net, sizes, lambda work: [work.module or work.node]).values())


def macs_by_node(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Multiply–accumulates of one example by the node of the program that makes them."""
    return _totals(net, sizes, lambda work: [work.node])


def macs_by_module(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Multiply–accumulates of one example by the path of the module that calls for them.

    Those of the modules inside are not among a module's own; "" is the network itself.
    """
    return _totals(net, sizes, lambda work: [work.module])


def macs_by_tensor(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Multiply–accumulates of one example by the weight whose entries are multiplied.

    A weight that is used in several places has all of them; what is multiplied by no weight, as in
    attention, is left out. Two weights that are multiplied by each other both have the product.
    """
    factors = _weights_of_nodes(net)
    return _totals(net, sizes, lambda work: factors.get(work.node, ()))


def count_params(net: Structure, sizes: Mapping[str, int] | None = None) -> int:
    """Numbers in the parameters (buffers excluded), tied ones once."""
    return sum(params_by_tensor(net, sizes).values())


def params_by_tensor(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Numbers in every parameter (buffers excluded), tied ones once."""
    current = sizes_of(net, sizes)
    return {name: net.extents[name].count(current) for name in net.source.parameters}


def _totals(
    net: Structure,
    sizes: Mapping[str, int] | None,
    keys: Callable[[Work], Iterable[str]],
) -> dict[str, int]:
    current = sizes_of(net, sizes)
    totals: dict[str, int] = {}
    for work in net.program.work:
        for key in keys(work):
            totals[key] = totals.get(key, 0) + work.macs.count(current)
    return {key: macs // net.program.batch for key, macs in totals.items()}


def _weights_of_nodes(net: Structure) -> dict[str, tuple[str, ...]]:
    """Node name → weights among its operands, also those that are computed with before."""
    held: dict[fx.Node, frozenset[str]] = {}
    for node in net.program.graph.nodes:
        if node.op == "get_attr":
            tensor = net.tensors.get(str(node.target))
            is_weight = tensor is not None and tensor.role == "weight"
            held[node] = frozenset({str(node.target)} if is_weight else ())
        elif node.op == "call_function" and all(n in held for n in node.all_input_nodes):
            # It depends on no input: a weight in the making.
            held[node] = frozenset().union(*(held[n] for n in node.all_input_nodes))
    return {
        node.name: tuple(sorted(frozenset().union(*(held.get(n, ()) for n in operands))))
        for node in net.program.graph.nodes
        if (operands := node.all_input_nodes)
    }
