"""Sizes that depend on values (`nonzero`, a boolean mask): known only by running the program.

torch.export gives such a size a symbol without a number. One run of the exported graph on the
example inputs tells the number, and it becomes the symbol's hint; the axes it belongs to are no
axes of units, so the number is never relied on, only counted with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from graphs.errors import TraceError
from graphs.places import place_of_stack

LEAST = 2
"""Hints are at least this: a size of 1 would look like one that is broadcast, 0 like no tensor."""


def hint_open_sizes(module: fx.GraphModule, inputs: Any) -> None:
    """Give every symbolic size without a number the one it has on the example inputs.

    Args:
        module: an exported graph; the metadata of its nodes are completed in place.
        inputs: (args, kwargs).

    Raises:
        TraceError: the graph cannot be run, as on the meta device, which has no values.
    """
    open_nodes = (node for node in module.graph.nodes for _ in _open(node))
    first = next(open_nodes, None)
    if first is None:
        return
    args, kwargs = inputs
    runner = _Recorder(module)
    try:
        with torch.no_grad():
            runner.run(*pytree.tree_leaves((args, kwargs)), enable_io_processing=False)
    except Exception as error:
        raise TraceError(
            f"the shape of {first.target} depends on the values of a tensor, which were not to "
            f"be had ({type(error).__name__})",
            place=place_of_stack(first.meta.get("stack_trace")),
            remedy="Trace a model with weights, not one on the meta device, on real inputs.",
        ) from error
    for node in module.graph.nodes:
        for size in _open(node):
            expression = size.node.expr.subs(runner.found)
            known = not expression.free_symbols
            size.node._hint = max(LEAST, int(expression)) if known else LEAST


def _open(node: fx.Node) -> Iterator[torch.SymInt]:
    """Symbolic sizes of a node's results that have no number."""
    for leaf in pytree.tree_leaves(node.meta.get("val")):
        sizes = leaf.shape if isinstance(leaf, torch.Tensor) else (leaf,)
        for size in sizes:
            if isinstance(size, torch.SymInt) and size.node.hint is None:
                yield size


class _Recorder(fx.Interpreter):
    """Runs the graph and notes the number behind every symbol."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[Any, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and compare the sizes it has with those it was said to have."""
        result = super().run_node(n)
        said, had = pytree.tree_leaves(n.meta.get("val")), pytree.tree_leaves(result)
        for one, other in zip(said, had, strict=False):
            if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
                pairs = list(zip(one.shape, other.shape, strict=False))
            else:
                pairs = [(one, other)]
            for size, number in pairs:
                if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                    self.found[size.node.expr] = max(LEAST, int(number))
        return result
