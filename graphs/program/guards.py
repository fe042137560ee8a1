"""Which sizes of inputs a program is right for, as calls of its graph.

`torch.export` keeps them as a function beside the graph; calls are copied, traced again and written
to files with the others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx


def put_guards(graph: fx.Graph, guards: Callable[..., Any]) -> None:
    """Compare the sizes of all inputs before anything is computed.

    Where the conditions are more than arithmetic (the larger one of two sizes), the traced sizes
    are insisted on.

    Args:
        graph: whose placeholders have the traced values in their metadata.
        guards: of `torch.export`; takes all inputs and asserts conditions of their sizes.
    """
    scratch = fx.Graph()
    places = [scratch.placeholder(place.name) for place in _places(graph)]
    try:
        guards(*(_Input(place, scratch) for place in places))
    except (fx.proxy.TraceError, TypeError):
        put_traced_sizes(graph)
        return
    places = _places(graph)
    with graph.inserting_before(places[-1].next):
        guards(*(_Input(place, graph) for place in places))


def put_traced_sizes(graph: fx.Graph) -> None:
    """Insist on the traced size of every dimension of every input.

    Args:
        graph: whose placeholders have the traced values in their metadata.
    """
    places = _places(graph)
    with graph.inserting_before(places[-1].next):
        for place in places:
            held = place.meta.get("val")
            for dim, size in enumerate(held.shape if isinstance(held, torch.Tensor) else ()):
                traced = int(size if isinstance(size, int) else size.node.hint)
                same = graph.call_function(operator.eq, (_size(graph, place, dim), traced))
                said = f"dimension {dim} of {place.name} must be {traced}, as it was traced"
                graph.call_function(torch._assert, (same, said))


def _places(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def _size(graph: fx.Graph, place: fx.Node, dim: int) -> fx.Node:
    return graph.call_function(torch.ops.aten.sym_size.int, (place, dim))


class _Input(fx.Proxy):
    """An input whose sizes are calls of a graph."""

    def __init__(self, place: fx.Node, graph: fx.Graph) -> None:
        super().__init__(place, fx.proxy.GraphAppendingTracer(graph))

    def size(self) -> _Sizes:
        """Sizes by dimension."""
        return _Sizes(self)


class _Sizes:
    def __init__(self, given: _Input) -> None:
        self.given = given

    def __getitem__(self, dim: int) -> fx.Proxy:
        place, tracer = self.given.node, self.given.tracer
        return fx.Proxy(_size(tracer.graph, place, dim), tracer)
