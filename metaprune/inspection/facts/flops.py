"""MACs against torch's own counter (`torch.utils.flop_counter`), module by module.

Both count products of matrices, convolutions and attention; torch counts a multiply and an add as
two operations, on the kernels that ran. What only one of them counts is told, never levelled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from graphs import Network
from graphs.calls.running import IN_STEPS, as_inputs, as_written, forward, quiet_evaluation
from graphs.cost import macs_by_module
from graphs.rules.registry import lookup, operator_name
from metaprune.inspection.schema import Check, Difference

Counts = dict[str, dict[str, int]]


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


# The kernel of attention on CPUs, for which torch has a formula but no entry.
_MORE = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def check(net: Network, model: nn.Module, example_inputs: Any) -> tuple[Check, dict[str, int]]:
    """Count with torch's counter too.

    Args:
        net: the traced network.
        model: the traced module.
        example_inputs: that it was traced on.

    Returns:
        The comparison, and torch's MACs of one example by module path, without those of the
        modules inside; empty when torch cannot count.
    """
    ours = macs_by_module(net)
    total = sum(ours.values())
    try:
        counts = _by_torch(model, example_inputs)
    except Exception as error:  # a kernel's formula may refuse shapes in many ways
        text = f"torch's counter fails on this model ({type(error).__name__}: {error})"
        return Check(total, None, False, text), {}
    theirs = {path: sum(ops.values()) for path, ops in counts.items()}
    operators, uncounted = _operators(net)
    differences = tuple(
        Difference(
            path,
            ours.get(path, 0),
            theirs.get(path, 0),
            _why(
                ours.get(path, 0),
                operators.get(path, ()),
                uncounted.get(path, ()),
                counts.get(path, {}),
            ),
        )
        for path in sorted({*ours, *theirs})
        if ours.get(path, 0) != theirs.get(path, 0)
    )
    return Check(total, sum(theirs.values()), not differences, "", differences), theirs


def _by_torch(model: nn.Module, example_inputs: Any) -> Counts:
    """Module path → operator → MACs of one example, without those of the modules inside."""
    args, kwargs = as_inputs(example_inputs)
    counter = FlopCounterMode(display=False, custom_mapping=_MORE)
    with quiet_evaluation(model), as_written(model), _countable(model), torch.no_grad(), counter:
        forward(model, args, kwargs)
    leaves = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
    batch = leaves[0].shape[0] if leaves and leaves[0].dim() else 1
    root = type(model).__name__
    inclusive = {
        key.removeprefix(root).removeprefix("."): {str(op): n for op, n in ops.items()}
        for key, ops in counter.get_flop_counts().items()
        if key == root or key.startswith(f"{root}.")
    }
    own = {path: dict(ops) for path, ops in inclusive.items()}
    for path, ops in inclusive.items():
        around = _around(path, inclusive)
        if around is not None:
            for op, n in ops.items():
                own[around][op] = own[around].get(op, 0) - n
    return {path: {op: n // (2 * batch) for op, n in ops.items() if n} for path, ops in own.items()}


@contextmanager
def _countable(model: nn.Module) -> Iterator[None]:
    """Attention in its own steps, and parameters without gradients, on which the counter fails."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with IN_STEPS:
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _around(path: str, paths: Mapping[str, Any]) -> str | None:
    """The innermost of the paths that lies around this one; None for the outermost."""
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return None


_CONTRACT = ("einsum", "matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "linear")


def _operators(net: Network) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Module path → names of its operators that we count, and of those that we might but do not."""
    counted: dict[str, dict[str, None]] = {}
    others: dict[str, dict[str, None]] = {}
    costed = {cost.node: cost.module for cost in net.program.costs}
    for node in net.program.graph.nodes:
        if node.op != "call_function":
            continue
        name = operator_name(node.target)
        if node.name in costed:
            counted.setdefault(costed[node.name], {})[name] = None
        elif name in _CONTRACT or (lookup(node.target) is None and name != "getitem"):
            others.setdefault(net.program.modules.get(node.name, ""), {})[name] = None
    likely = {path: [n for n in names if n in _CONTRACT] for path, names in others.items()}
    return (
        {path: list(names) for path, names in counted.items()},
        {path: likely[path] or list(names) for path, names in others.items()},
    )


def _why(
    ours: int, counted: Sequence[str], uncounted: Sequence[str], theirs: Mapping[str, int]
) -> str:
    """Why the two differ, as far as the operators tell."""
    said = ", ".join(op.removeprefix("aten.") for op, n in theirs.items() if n)
    if uncounted and sum(theirs.values()) > ours:
        return f"metaprune does not count {', '.join(uncounted)}; torch counts its kernels, {said}"
    if not counted:
        return f"only torch counts {said}: no units and no weights run along these products"
    if not said:
        return f"only metaprune counts {', '.join(counted)}: torch has no formula for its kernel"
    return f"metaprune counts {', '.join(counted)}, torch the kernels that ran, {said}"
