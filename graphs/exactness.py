"""What removing dead units does to the function, axis by axis.

A unit is dead when it is zero at every producer: the rows of weights, biases and scales along its
axis. An abstract pass follows what a dead unit becomes: still zero, a constant (sigmoid(0) is one
half), or something that depends on the input (a query head of zeros still averages the values).

    exact           nothing changes
    bias-fold       a constant disappears from a sum; folded into a bias, nothing changes
    norm-rescaled   a root mean square changes by the share of units that stays
    norm-changed    means and variances over units change
    data-dependent  dead units still pass data on
    refused         the axis is frozen
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.dims import EXACTNESS, Atom, Axis, Dim, atoms
from graphs.program import Program
from graphs.rules.registry import lookup, operator_name

Axes = frozenset[str]


def classify(
    program: Program,
    tensors: Mapping[str, Any],
    axes: Mapping[str, Axis],
    stated: Mapping[str, Sequence[str]],
) -> dict[str, Axis]:
    """Axes with their class of exactness.

    Args:
        program: the traced program.
        tensors: name → `graphs.Tensor`.
        axes: name → axis.
        stated: axis name → classes that norms and reductions stated.
    """
    found = {name: set(classes) for name, classes in stated.items()}
    for name, kind in _summed_alive(program, tensors):
        found.setdefault(name, set()).add(kind)

    def worst(axis: Axis) -> str:
        if axis.frozen:
            return "refused"
        return max(found.get(axis.name, {"exact"}), key=EXACTNESS.index, default="exact")

    return {name: replace(axis, exactness=worst(axis)) for name, axis in axes.items()}


def _over(dims: Iterable[Dim]) -> Axes:
    return frozenset(a for d in dims for a in atoms(d))


def _summed_alive(program: Program, tensors: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(axis, class) wherever an operator sums over an axis whose dead units are not zero."""
    carries: dict[str, Axes] = {}
    zero: dict[str, Axes] = {}
    # Axes along which a dead unit does not depend on the input; `still` nodes depend on no input.
    constant: dict[str, Axes] = {}
    still: set[str] = set()
    alive: set[tuple[str, str]] = set()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            tensor = tensors.get(str(node.target))
            dims = tensor.dims if tensor is not None else ()
            carries[node.name] = constant[node.name] = _over(dims)
            produced = (
                [d for d, p in zip(dims, tensor.produces, strict=True) if p] if tensor else []
            )
            zero[node.name] = _over(produced)
            still.add(node.name)
            continue
        if node.op != "call_function" or node.name not in program.dims:
            continue
        operands = [n for n in node.all_input_nodes if n.name in carries]
        others = [n for n in node.all_input_nodes if n.name not in carries]
        if not others and all(n.name in still for n in operands):
            still.add(node.name)
        out = _over(program.dims[node.name])
        found = lookup(node.target)
        mode = "move" if node.target is operator.getitem else found.zero if found else "map"
        carries[node.name] = out
        zero[node.name] = frozenset(
            a for a in out if _stays_zero(a, mode, node, operands, carries, zero)
        )
        unmoved = [n for n in operands if n.name not in still]
        constant[node.name] = zero[node.name] | frozenset(
            a for a in out if not others and all(a in constant[n.name] for n in unmoved)
        )
        for axis in _over(d for n in operands for d in map(Atom, carries[n.name])) - out:
            if any(axis in zero[n.name] for n in operands):
                continue
            moved = [n for n in operands if axis in carries[n.name] and n.name not in still]
            fixed = all(axis in constant[n.name] for n in moved)
            alive.add((axis, "bias-fold" if fixed else "data-dependent"))
    return alive


def _stays_zero(
    axis: str,
    mode: str,
    node: fx.Node,
    operands: Sequence[fx.Node],
    carries: Mapping[str, Axes],
    zero: Mapping[str, Axes],
) -> bool:
    def zero_at(n: fx.Node) -> bool:
        return axis in zero[n.name]

    having = [n for n in operands if axis in carries[n.name]]
    if not having:
        return mode == "pad"
    if mode == "product":
        return any(map(zero_at, having))
    if mode == "never":
        return False
    if mode == "value":
        return node.args[2] in having and zero_at(node.args[2])
    if mode == "first":
        return zero_at(having[0]) and having[0] is node.args[0]
    if mode == "sum":
        numbers = [a for a in node.args if isinstance(a, int | float) and a]
        return not numbers and all(axis in carries[n.name] and zero_at(n) for n in operands)
    if mode in ("affine", "bias-first"):
        bias_at = 2 if mode == "affine" else 0
        bias = node.args[bias_at] if len(node.args) > bias_at else None
        factors = [n for n in having if n is not bias]
        fine = not isinstance(bias, fx.Node) or (bias in having and zero_at(bias))
        return fine and any(map(zero_at, factors))
    if mode == "affine-norm":
        # γ x̂ + β with γ = β = 0, or without either on a value that is zero.
        others = [n for n in having if n is not node.args[0]]
        if others:
            return all(map(zero_at, others))
        return operator_name(node.target) == "rms_norm" and zero_at(having[0])
    if mode in ("move", "pad"):
        return all(map(zero_at, having))
    return all(map(zero_at, having)) and _maps_zero_to_zero(node)


def _maps_zero_to_zero(node: fx.Node) -> bool:
    """Apply the operator to a zero, with the other arguments as they are."""
    try:
        args = [torch.zeros(1) if isinstance(a, fx.Node) else a for a in node.args]
        kwargs = {k: v for k, v in node.kwargs.items() if not isinstance(v, fx.Node)}
        result = node.target(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(result, torch.Tensor) and not bool(result.any())
