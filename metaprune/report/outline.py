"""The layer-level graph in outline: axes as nodes, weights as edges, for reports and people."""

from __future__ import annotations

from graphs import Network, Tensor
from graphs.axes.dims import atoms
from metaprune.report.schema import Edge, Node

WEIGHTS = ("weight", "embedding")


def outline(net: Network) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Axes in the order in which weights come to them, and what every weight reads and produces.

    A weight that reads no axis and is the first to produce one reads the input; a later one
    (depthwise, elementwise) works on the axis itself and is no edge.
    """
    edges: list[Edge] = []
    produced: set[str] = set()
    for name, tensor in net.tensors.items():
        if tensor.role not in WEIGHTS:
            continue
        reads, makes = _sides(tensor)
        for target in makes:
            sources = reads or (() if target in produced else ("",))
            edges += [Edge(name, source, target) for source in sources]
            produced.add(target)
    order = dict.fromkeys(name for edge in edges for name in (edge.source, edge.target) if name)
    nodes = tuple(
        Node(axis.name, axis.size, axis.kind, axis.frozen or axis.exactness, bool(axis.frozen))
        for axis in (net.axes[name] for name in dict.fromkeys([*order, *net.axes]))
    )
    return nodes, tuple(edges)


def _sides(tensor: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Axes that a weight reads, and axes that it produces."""
    sides: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for dim, produces in zip(tensor.dims, tensor.produces, strict=True):
        sides[produces].update(dict.fromkeys(atoms(dim)))
    return tuple(sides[False]), tuple(sides[True])
