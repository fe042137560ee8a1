"""Which sizes of inputs a program is right for, as calls of its graph.

`torch.export` keeps them as a function beside the graph; calls are copied, traced again and written
to files with the others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn


def put_guards(graph: fx.Graph, guards: Callable[..., Any]) -> None:
    """Compare the sizes of all inputs before anything is computed.

    Where Python decides between conditions (a chain of comparisons, the larger of two sizes), that
    they are as they were is a condition, too; where that is not told, all traced sizes are.

    Args:
        graph: whose placeholders have the traced values in their metadata.
        guards: of `torch.export`; takes all inputs and asserts conditions of their sizes.
    """
    places = _places(graph)
    if not _hold_as_traced(guards, places):
        put_traced_sizes(graph)
        return
    with graph.inserting_before(places[-1].next):
        guards(*(_Input(place, _Tracer(graph)) for place in places))


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
                traced = _number(size)
                same = graph.call_function(operator.eq, (_size(graph, place, dim), traced))
                said = f"dimension {dim} of {place.name} must be {traced}, as it was traced"
                graph.call_function(torch._assert, (same, said))


def _hold_as_traced(guards: Callable[..., Any], places: list[fx.Node]) -> bool:
    """Whether guards can be written as calls, which the traced sizes pass."""
    scratch = fx.Graph()
    tracer = _Tracer(scratch)
    try:
        guards(*[_Input(scratch.placeholder(place.name), tracer) for place in places])
        scratch.output(None)
        fx.GraphModule(nn.Module(), scratch)(*(_traced(place.meta.get("val")) for place in places))
    except (fx.proxy.TraceError, TypeError, AssertionError):
        return False
    return True


def _traced(value: Any) -> Any:
    """What a placeholder was traced with; of a tensor its sizes alone."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty([_number(size) for size in value.shape], device="meta")


def _number(size: Any) -> int:
    return int(size if isinstance(size, int) else size.node.hint)


def _places(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def _size(graph: fx.Graph, place: fx.Node, dim: int) -> fx.Node:
    return graph.call_function(torch.ops.aten.sym_size.int, (place, dim))


class _Tracer(fx.proxy.GraphAppendingTracer):
    """Writes what is asked of sizes into a graph."""

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Of `2 <= n <= 8` Python asks the first half, and returns the second: both must hold."""
        said = "Guard failed: the sizes of the inputs are none that the program was proved for"
        self.graph.call_function(torch._assert, (obj.node, said))
        return True


class _Input(fx.Proxy):
    """An input whose sizes are calls of a graph."""

    def __init__(self, place: fx.Node, tracer: _Tracer) -> None:
        super().__init__(place, tracer)

    def size(self) -> _Sizes:
        """Sizes by dimension."""
        return _Sizes(self)


class _Sizes:
    def __init__(self, given: _Input) -> None:
        self.given = given

    def __getitem__(self, dim: int) -> fx.Proxy:
        place, tracer = self.given.node, self.given.tracer
        return fx.Proxy(_size(tracer.graph, place, dim), tracer)
