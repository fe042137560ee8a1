"""Batch norms and the linear maps right before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import fx

from graphs.rules.registry import operator_name

if TYPE_CHECKING:
    from graphs import Network


def normalized_producers(net: Network) -> frozenset[str]:
    """Weights and biases of linear maps whose only consumer is a batch norm with a scale.

    Tensors that the forward uses in several places are not among them.
    """
    return frozenset(
        name
        for norm, name in _before_norms(net, _uses(net))
        if norm.args[1] is not None and net.tensors[name].role in ("weight", "bias")
    )


def norm_means(net: Network) -> dict[str, str]:
    """Weights whose only consumer is a batch norm with running statistics → its running mean.

    Tensors that the forward uses in several places are not among them.
    """
    uses = _uses(net)
    found = {}
    for norm, name in _before_norms(net, uses):
        mean = str(getattr(norm.args[3], "target", "")) if len(norm.args) > 3 else ""
        if mean in net.tensors and uses[mean] == 1 and net.tensors[name].role == "weight":
            found[name] = mean
    return found


def _uses(net: Network) -> Counter[str]:
    """In how many places the forward uses each tensor."""
    fetched = [node for node in net.program.graph.nodes if node.op == "get_attr"]
    return Counter(str(node.target) for node in fetched for _ in node.users)


def _before_norms(net: Network, uses: Counter[str]) -> Iterator[tuple[fx.Node, str]]:
    """Batch norms, and the tensors used once in the operation that only they read."""
    for norm in net.program.graph.nodes:
        if operator_name(norm.target) != "batch_norm" or len(norm.args[0].users) != 1:
            continue
        for operand in norm.args[0].all_input_nodes:
            name = str(operand.target)
            if operand.op == "get_attr" and name in net.tensors and uses[name] == 1:
                yield norm, name
