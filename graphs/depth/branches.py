"""The branches of residual sums that may be dropped whole, found in the program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from graphs.cost import macs_by_node
from graphs.relate.structure import Structure
from graphs.rules.registry import operator_name


@dataclass(frozen=True)
class Block:
    """A residual branch that can be dropped whole.

    Args:
        name: path of the module whose calls make it, or the name of its sum; unique.
        sum: the node that adds the branch to the stream.
        stream: the node that stays.
        nodes: names of the branch's nodes.
        tensors: names of the tensors that only this branch reads.
        macs: multiply–accumulates of the branch for one example.
    """

    name: str
    sum: str
    stream: str
    nodes: frozenset[str]
    tensors: tuple[str, ...]
    macs: int


def blocks(net: Structure) -> list[Block]:
    """Every residual branch with weights of its own, in the order of the forward.

    Two branches of one layer (attention, MLP) are two blocks; a branch that holds others is listed
    as well. A branch with a frozen tensor stays.
    """
    graph = net.program.graph
    macs = macs_by_node(net)
    shape = {name: tuple(map(str, dims)) for name, dims in net.program.dims.items()}
    order = {node: i for i, node in enumerate(graph.nodes)}
    found: list[Block] = []
    taken: dict[str, int] = {}
    for node in graph.nodes:
        # Of all operators that add, this one is how a residual sum is spelled.
        if node.op != "call_function" or operator_name(node.target) != "add":
            continue
        operands = [a for a in node.args[:2] if isinstance(a, fx.Node)]
        if len(operands) != 2 or operands[0] is operands[1] or node.kwargs.get("alpha", 1) != 1:
            continue
        for stream, branch in (operands, operands[::-1]):
            inside, read = _cone(branch, node)
            if stream not in read or shape.get(stream.name) != shape.get(node.name):
                continue
            tensors = tuple(
                str(n.target)
                for n in sorted(inside, key=order.__getitem__)
                if n.op == "get_attr" and str(n.target) in net.tensors
            )
            if not tensors or any(net.tensors[name].frozen for name in tensors):
                continue
            base = _common_path(net, tensors) or node.name
            taken[base] = taken.get(base, 0) + 1
            name = base if taken[base] == 1 else f"{base}.{taken[base]}"
            names = frozenset(n.name for n in inside)
            spent = sum(macs.get(n, 0) for n in names)
            found.append(Block(name, node.name, stream.name, names, tensors, spent))
            break
    return found


def _cone(end: fx.Node, user: fx.Node) -> tuple[set[fx.Node], set[fx.Node]]:
    """The nodes that feed `end` and nothing else, and those they read from outside."""
    inside: set[fx.Node] = set()
    outside: set[fx.Node] = set()
    if set(end.users) != {user} or end.op != "call_function":
        return inside, outside
    inside.add(end)
    waiting = [end]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source in inside or source.op == "placeholder":
                outside |= {source} - inside
            elif all(u in inside for u in source.users):
                inside.add(source)
                outside.discard(source)
                waiting.append(source)
            else:
                outside.add(source)
    return inside, outside


def _common_path(net: Structure, tensors: Iterable[str]) -> str:
    """The module that holds all weights of a branch (its norms may lie outside)."""
    paths = [t.split(".")[:-1] for t in tensors if net.tensors[t].role == "weight"]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) != 1:
            break
        common.append(parts[0])
    return ".".join(common)
