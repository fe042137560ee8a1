"""What removing dead units does to the function, axis by axis.

A unit is dead when it is zero at every producer: the rows of weights, biases and scales along its
axis. An abstract pass follows what a dead unit becomes: still zero, or something else (sigmoid(0) is
one half). Where an operator sums over units that are not zero any more, removing them changes the
result by a constant: the axis is `bias-fold`. Norms state their own classes.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.dims import EXACTNESS, Axis, Dim, atoms
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
    for name in _summed_alive(program, tensors):
        found.setdefault(name, set()).add("bias-fold")

    def worst(axis: Axis) -> str:
        if axis.frozen:
            return "refused"
        return max(found.get(axis.name, {"exact"}), key=EXACTNESS.index, default="exact")

    return {name: replace(axis, exactness=worst(axis)) for name, axis in axes.items()}


def _over(dims: Sequence[Dim]) -> Axes:
    return frozenset(a for d in dims for a in atoms(d))


def _summed_alive(program: Program, tensors: Mapping[str, Any]) -> set[str]:
    """Axes that some operator sums over while their dead units are not zero."""
    zero: dict[str, Axes] = {}
    carries: dict[str, Axes] = {}
    alive: set[str] = set()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            tensor = tensors.get(str(node.target))
            dims = tensor.dims if tensor is not None else ()
            carries[node.name] = _over(dims)
            produced = [d for d, p in zip(dims, tensor.produces, strict=True) if p] if tensor else []
            # Running variance is left as it is in a dead unit; it divides a zero.
            zero[node.name] = _over(produced)
            continue
        if node.op != "call_function":
            continue
        operands = [n for n in node.all_input_nodes if n.name in carries]
        if node.name not in program.dims:
            continue
        out = _over(program.dims[node.name])
        seen = frozenset().union(*(carries[n.name] for n in operands)) if operands else frozenset()
        found = lookup(node.target)
        mode = "move" if node.target is operator.getitem else found.zero if found else "map"
        carries[node.name] = out
        zero[node.name] = frozenset(a for a in out if _stays_zero(a, mode, node, operands, carries, zero))
        if mode in ("product", "affine", "bias-first"):
            for axis in seen - out:
                if not any(axis in zero[n.name] for n in operands):
                    alive.add(axis)
    return alive


def _stays_zero(
    axis: str,
    mode: str,
    node: fx.Node,
    operands: Sequence[fx.Node],
    carries: Mapping[str, Axes],
    zero: Mapping[str, Axes],
) -> bool:
    def is_zero(n: fx.Node) -> bool:
        return axis in zero[n.name]

    having = [n for n in operands if axis in carries[n.name]]
    if not having:
        return mode == "pad"
    if mode == "product":
        return any(map(is_zero, having))
    if mode == "first":
        return is_zero(having[0]) and having[0] is node.args[0]
    if mode == "sum":
        numbers = [a for a in node.args if isinstance(a, int | float) and a]
        return not numbers and all(axis in carries[n.name] and is_zero(n) for n in operands)
    if mode in ("affine", "bias-first"):
        bias_at = 2 if mode == "affine" else 0
        bias = node.args[bias_at] if len(node.args) > bias_at else None
        factors = [n for n in having if n is not bias]
        fine = not isinstance(bias, fx.Node) or (bias in having and is_zero(bias))
        return fine and any(map(is_zero, factors))
    if mode == "affine-norm":
        # γ x̂ + β with γ = β = 0, or without either on a value that is zero.
        others = [n for n in having if n is not node.args[0]]
        if others:
            return all(map(is_zero, others))
        return operator_name(node.target) == "rms_norm" and is_zero(having[0])
    if mode in ("move", "pad"):
        return all(map(is_zero, having))
    return all(map(is_zero, having)) and _maps_zero_to_zero(node)


def _maps_zero_to_zero(node: fx.Node) -> bool:
    """Apply the operator to a zero, with the other arguments as they are."""
    try:
        args = [torch.zeros(1) if isinstance(a, fx.Node) else a for a in node.args]
        kwargs = {k: v for k, v in node.kwargs.items() if not isinstance(v, fx.Node)}
        result = node.target(*args, **kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(result, torch.Tensor) and not bool(result.any())
