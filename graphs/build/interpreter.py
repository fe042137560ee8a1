"""A network's program, run as it is: node by node, without code being generated for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from graphs.program.program import changed_calls
from graphs.relate.structure import Structure


class Running(nn.Module):
    """The program of a network over tensors, with its size arguments rewritten.

    For a few runs on inputs like the traced ones; `graphs.program.module.ExportedModule` is for
    keeping.

    Args:
        net: whose program was recorded.
        tensors: name → value, of the shapes they have in `net`.
        then: name of a node → what becomes of its value.
    """

    def __init__(
        self,
        net: Structure,
        tensors: Mapping[str, torch.Tensor],
        then: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.then = then or {}
        self.program, self.tensors = net.program, tensors
        self.changed = dict(changed_calls(net.program, net.source.axes, net.axes))
        self.uses = Counter(n for node in net.program.graph.nodes for n in node.all_input_nodes)

    def forward(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """All tensors that the program returns, in order."""
        leaves = iter(pytree.tree_leaves((args, kwargs)))
        values: dict[fx.Node, Any] = {}
        left = dict(self.uses)

        def given(argument: Any) -> Any:
            if isinstance(argument, fx.Node):
                return values[argument]
            if isinstance(argument, list | tuple):
                return [given(entry) for entry in argument]
            return argument

        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(leaves)
            elif node.op == "get_attr":
                target = str(node.target)
                held = self.tensors.get(target)
                values[node] = self.program.constants[target] if held is None else held
            elif node.op == "call_function":
                target, positional, named = self.changed.get(
                    node.name, (node.target, node.args, node.kwargs)
                )
                values[node] = target(
                    *map(given, positional), **{key: given(v) for key, v in named.items()}
                )
            else:
                return [v for v in given(node.args[0]) if isinstance(v, torch.Tensor)]
            if node.name in self.then:
                values[node] = self.then[node.name](values[node])
            for used in node.all_input_nodes:
                left[used] -= 1
                if not left[used]:
                    del values[used]
        raise AssertionError("the program returns nothing")
