"""The traced program: one flat fx graph of ATen calls, and how to rewrite it for other shapes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from graphs.axes.dims import Axis, Dim, atoms, size
from graphs.axes.extents import Product
from graphs.calls.nested import leaves
from graphs.program.rescale import Rescale
from graphs.rules.context import Cost, Extent, Inverse, Pinned
from graphs.rules.registry import known_of


class Work(NamedTuple):
    """Multiply–accumulates of a node, as a function of the axis sizes.

    Args:
        node: name of the node.
        module: path of the module that calls it; empty where none is known.
        macs: of all traced examples.
    """

    node: str
    module: str
    macs: Product


@dataclass(frozen=True)
class Program:
    """A flat graph whose integer arguments are known as expressions over axes.

    Attributes:
        graph: ATen calls; `get_attr` targets are tensor names or constants.
        constants: tensors that the forward itself makes, and branches of torch.cond, by target.
        dims: node name → dimensions of its result; of all results, one after another, of a tuple.
        arguments: node name → {position or keyword: value with `Extent`/`Pinned` leaves}.
        costs: multiply–accumulates of every node, as products of dimensions.
        batch: number of examples in the traced input; costs are divided by it.
        modules: node name → path of the module that made the call.
        rescales: parameters that follow the number of units of root-mean-square norms.
        recorded: whether it was written down in one pass, for the traced sizes only.
        guards: of `torch.export`: takes all inputs and asserts that the program is right for their
            sizes; None of a recorded one.
    """

    graph: fx.Graph
    constants: Mapping[str, Any]
    dims: Mapping[str, tuple[Dim, ...]]
    arguments: Mapping[str, Mapping[int | str, Any]]
    costs: tuple[Cost, ...]
    batch: int
    modules: Mapping[str, str] = field(default_factory=dict)
    rescales: tuple[Rescale, ...] = ()
    recorded: bool = False
    guards: nn.Module | None = None

    @cached_property
    def work(self) -> tuple[Work, ...]:
        """Multiply–accumulates of all traced examples, node by node."""
        return tuple(Work(c.node, c.module, Product.of(c.dims)) for c in self.costs)


def _dims_inside(value: Any) -> list[Dim]:
    return [leaf.dim for leaf in leaves(value) if isinstance(leaf, Extent | Pinned | Inverse)]


def changed_extents(
    program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]
) -> list[tuple[str, int, int]]:
    """(module path, old size, new size) of every size argument that differs."""
    changes = []
    for node, given in program.arguments.items():
        for leaf in leaves(list(given.values())):
            if not isinstance(leaf, Extent | Pinned):
                continue
            old, new = size(leaf.dim, before), size(leaf.dim, after)
            if old != new:
                changes.append((program.modules.get(node, ""), old, new))
    return changes


def changed_numbers(
    program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]
) -> list[tuple[str, float, float]]:
    """(module path, old value, new value) of every number that follows a size (an ε)."""
    return [
        (program.modules.get(node, ""), leaf.value, _inverse(leaf, before, after))
        for node, given in program.arguments.items()
        for leaf in leaves(list(given.values()))
        if isinstance(leaf, Inverse) and size(leaf.dim, before) != size(leaf.dim, after)
    ]


def _inverse(leaf: Inverse, before: Mapping[str, Axis], after: Mapping[str, Axis]) -> float:
    return leaf.value * size(leaf.dim, before) / size(leaf.dim, after)


Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def changed_calls(
    program: Program,
    before: Mapping[str, Axis],
    after: Mapping[str, Axis],
    resize: Callable[[fx.Node, fx.Node, int, int], Any] | None = None,
) -> Iterator[tuple[str, Call]]:
    """(node name, (target, args, kwargs)) of every call that differs for the axes `after`.

    Args:
        program: the program.
        before, after: the axes as traced, and as they are now.
        resize: (node, its size argument, old and new number of positions) → what to pass where the
            size is computed by another node; needed where sizes are open.
    """
    smaller = {n for n in after if after[n].size != before[n].size}

    def concrete(new: Any, old: Any, at: fx.Node) -> Any:
        if isinstance(new, Extent):
            if old is not None and smaller.isdisjoint(atoms(new.dim)):
                return old
            fewer = size(new.dim, after) + new.offset
            if not isinstance(old, fx.Node):
                return fewer
            assert resize is not None
            return resize(at, old, size(new.dim, before), fewer)
        if isinstance(new, Pinned):
            return old if smaller.isdisjoint(atoms(new.dim)) else new.value
        if isinstance(new, Inverse):
            return _inverse(new, before, after)
        return new

    for node in program.graph.nodes if smaller else ():
        # A smaller operand may be laid out in another way than the one that the view was traced on.
        view = node.target is torch.ops.aten.view.default
        target = torch.ops.aten.reshape.default if view else node.target
        given = program.arguments.get(node.name)
        if given is None or all(
            smaller.isdisjoint(atoms(d)) for d in _dims_inside(list(given.values()))
        ):
            if view:
                yield node.name, (target, node.args, dict(node.kwargs))
            continue
        args, kwargs = list(node.args), dict(node.kwargs)
        for where, new in given.items():
            old = kwargs.get(where) if isinstance(where, str) else args[where]
            if isinstance(new, list | tuple):
                olds = old if isinstance(old, list | tuple) else [None] * len(new)
                value: Any = [
                    concrete(n, o, node) if not isinstance(n, fx.Node) else o
                    for n, o in zip(new, olds, strict=True)
                ]
            else:
                value = concrete(new, old, node)
            if isinstance(where, str):
                kwargs[where] = value
            else:
                args[where] = value
        target = known_of(node.target).spelled or target
        yield node.name, (target, tuple(args), kwargs)


def copied(graph: fx.Graph) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """A copy of a graph that takes and returns the same, and old → new nodes."""
    made = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    made.output(made.graph_copy(graph, nodes))
    made.set_codegen(graph._codegen)
    return made, nodes


def rewritten(program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]) -> fx.Graph:
    """A copy of the graph whose size arguments follow the axes `after`."""
    graph, values = copied(program.graph)
    copies = {old.name: new for old, new in values.items()}

    def resize(at: fx.Node, old: fx.Node, whole: int, fewer: int) -> fx.Node:
        with graph.inserting_before(copies[at.name]):
            grown = graph.call_function(operator.mul, (values[old], fewer))
            return graph.call_function(operator.floordiv, (grown, whole))

    for name, (target, args, kwargs) in changed_calls(program, before, after, resize):
        node = copies[name]
        node.target = target
        node.args = fx.map_arg(args, lambda n: values.get(n, n))
        node.kwargs = fx.map_arg(kwargs, lambda n: values.get(n, n))
    return graph
