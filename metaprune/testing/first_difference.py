"""Where two runs of a program first differ, beyond what a permutation or a cut explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from graphs import Network
from graphs.axes.dims import kept_positions
from graphs.calls.running import quiet_evaluation
from graphs.rules.context import describe
from metaprune.testing.checking import gap
from metaprune.testing.subject import Subject


def first_difference(
    subject: Subject, before: Network, after: Network, kept: Mapping[str, torch.Tensor]
) -> str | None:
    """The first operator whose result is not that of `before` with units reordered or dropped.

    Args:
        subject: inputs and dtype of the runs.
        before: a network.
        after: the same with `kept` applied to its axes.
        kept: axis name → units in their new order.

    Returns:
        The operator, its place in the user's code and the node, or None where the results agree or
        cannot be compared.
    """
    runs = [_values(subject, net) for net in (before, after)]
    if any(run is None for run in runs):
        return None
    old, new = runs
    for node in before.program.graph.nodes:
        dims = before.program.dims.get(node.name)
        left, right = old.get(node.name), new.get(node.name)
        if (
            not isinstance(left, torch.Tensor)
            or not isinstance(right, torch.Tensor)
            or dims is None
            or len(dims) != left.dim()
        ):
            continue
        for i, dim in enumerate(dims):
            index = kept_positions(dim, kept, before.axes)
            if index is not None and left.shape[i] > int(index.max()):
                left = left.index_select(i, index.to(left.device))
        if gap([left], [right]) > 1e-9:
            return f"{describe(node)} (node {node.name})"
    return None


def _values(subject: Subject, net: Network) -> Any:
    """Node name → value, of one run; None where it fails."""
    module: Any = subject.program(net)
    kept: dict[str, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            kept[n.name] = value.detach() if isinstance(value, torch.Tensor) else value
            return value

    flat = pytree.tree_leaves(subject.inputs)
    if len(flat) != sum(node.op == "placeholder" for node in module.graph.nodes):
        return None
    with quiet_evaluation(module), torch.no_grad():
        try:
            Recorder(module).run(*flat, enable_io_processing=False)
        except Exception:
            return kept or None
    return kept
