"""The layer-level graph in outline: axes as nodes, weights as edges, for reports and people."""

from __future__ import annotations

from graphs import Network
from metaprune.report.schema import Edge, Node

WEIGHTS = ("weight", "embedding")
"""Roles of the tensors that make units out of others."""


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
        for target in tensor.axes_made:
            sources = tensor.axes_read or (() if target in produced else ("",))
            edges += [Edge(name, source, target) for source in sources]
            produced.add(target)
    order = dict.fromkeys(name for edge in edges for name in (edge.source, edge.target) if name)
    nodes = tuple(
        Node(axis.name, axis.size, axis.kind, axis.frozen or axis.exactness, bool(axis.frozen))
        for axis in (net.axes[name] for name in dict.fromkeys([*order, *net.axes]))
    )
    return nodes, tuple(edges)
