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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import fx

from graphs.dims import EXACTNESS, Axis, Dim, atoms
from graphs.nested import leaves
from graphs.program import Program
from graphs.rules.registry import lookup, moves_only, operator_name, reparametrises

Axes = frozenset[str]

# Operators whose sums over an axis vanish when one of the operands is zero there.
_PRODUCTS = ("product", "affine", "bias-first", "value", "recurrent")
# Operators whose rules say themselves what becomes of a statistic of a weight.
_STATISTICS = ("mean", "var", "std", "var_mean", "std_mean")
# Operators that drop positions instead of summing over them.
_CUTS = ("slice", "narrow", "select")
# Operators that make of equal numbers different ones, by their places.
_UNEVEN = ("argsort", "cumsum", "cumprod", "logcumsumexp", "tril", "triu", "col2im")


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
    return frozenset().union(*map(atoms, dims))


def _summed_alive(program: Program, tensors: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(axis, class) wherever an operator sums over an axis whose dead units are not zero."""
    carries: dict[str, Axes] = {}
    zero: dict[str, Axes] = {}
    # Axes along which a dead unit does not depend on the input; `still` nodes depend on no input.
    constant: dict[str, Axes] = {}
    # Axes that a parameter is only read along (its columns).
    read: dict[str, Axes] = {}
    # Axes along some dimension that a parameter is read along; a square weight has both sides.
    columns: dict[str, Axes] = {}
    still: set[str] = set()
    # Values that are zero everywhere.
    blank: set[str] = set()
    alive: set[tuple[str, str]] = set()
    # Values that share memory, all in one list: writing into one writes into the others.
    sharing: dict[str, list[str]] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor):
            carries[node.name] = zero[node.name] = constant[node.name] = frozenset()
            continue
        if node.op == "get_attr":
            tensor = tensors.get(str(node.target))
            dims = tensor.dims if tensor is not None else ()
            carries[node.name] = constant[node.name] = _over(dims)
            produced = (
                [d for d, p in zip(dims, tensor.produces, strict=True) if p] if tensor else []
            )
            zero[node.name] = _over(produced)
            read[node.name] = carries[node.name] - zero[node.name]
            columns[node.name] = _over(
                [d for d, p in zip(dims, tensor.produces, strict=True) if not p] if tensor else []
            )
            still.add(node.name)
            held = program.constants.get(str(node.target))
            if isinstance(held, torch.Tensor) and not held.is_meta and not held.any():
                blank.add(node.name)
            continue
        if node.op != "call_function" or node.name not in program.dims:
            continue
        operands = [n for n in node.all_input_nodes if n.name in carries]
        others = [n for n in node.all_input_nodes if n.name not in carries]
        if not others and all(n.name in still for n in operands):
            still.add(node.name)
        out = _over(program.dims[node.name])
        found = lookup(node.target)
        mode = found.zero if found else "map"
        if node.target is operator.getitem:
            mode = "move" if _holds_values(node) else "never"  # places of zeros are not zero
        carries[node.name] = out
        if operands and moves_only(node):
            columns[node.name] = columns.get(operands[0].name, frozenset())
        elif node.name in still and reparametrises(node):
            columns[node.name] = frozenset().union(*(columns.get(n.name, ()) for n in operands))
        if mode == "zero" or (operands and mode == "map" and _blank_again(node, operands, blank)):
            blank.add(node.name)
        dead = zero
        if mode == "recurrent":
            # What is fed back is read by the columns of a weight and made by its rows.
            dead = {n.name: zero[n.name] | read.get(n.name, frozenset()) for n in operands}
        zero[node.name] = frozenset(
            a for a in out if _stays_zero(a, mode, node, operands, carries, dead, blank)
        )
        unmoved = [n for n in operands if n.name not in still]
        uniform = not others and not _uneven(node, mode)
        # What differs from place to place makes a constant differ, unless it is along the axis.
        varied = [n for n in operands if n.name in still and not _single(n)]
        constant[node.name] = zero[node.name] | frozenset(
            a
            for a in out
            if uniform
            and all(a in constant[n.name] for n in unmoved)
            and all(a in carries[n.name] for n in varied)
        )
        views = sharing.get(node.args[0].name, []) if _aliases(node) else []
        views.append(node.name)
        sharing[node.name] = views
        if _writes(node):
            for name in views:
                zero[name] -= out - zero[node.name]
                whole = node.args[0].name == views[0]
                constant[name] -= out - (constant if whole else zero)[node.name]
        if node.target is operator.getitem or operator_name(node.target) in _CUTS:
            continue
        if node.name in still and operator_name(node.target) in _STATISTICS:
            continue
        summed = frozenset().union(*(carries[n.name] for n in operands)) - out
        if mode in _PRODUCTS and node.name not in still:
            summed = summed.union(*(columns.get(n.name, ()) for n in operands))
        for axis in summed:
            gone = [
                axis in zero[n.name] and axis not in columns.get(n.name, ())
                for n in operands
                if axis in carries[n.name]
            ]
            if any(gone) if mode in _PRODUCTS else all(gone):
                continue
            moved = [n for n in operands if axis in carries[n.name] and n.name not in still]
            fixed = bool(moved) and all(axis in constant[n.name] for n in moved)
            fixed = fixed and not _padded(node)
            alive.add((axis, "bias-fold" if fixed else "data-dependent"))
    return alive


def _single(node: fx.Node) -> bool:
    """Whether a value is one number."""
    held = node.meta.get("val")
    return isinstance(held, torch.Tensor) and all(n == 1 for n in held.shape)


def _padded(node: fx.Node) -> bool:
    """Whether a convolution sees zeros around its input, where a constant is none."""
    if "conv" not in operator_name(node.target):
        return False
    padding = node.args[4] if len(node.args) > 4 else node.kwargs.get("padding", 0)
    sizes = padding if isinstance(padding, list | tuple) else [padding]
    return padding == "same" or any(sizes) or "transpose" in operator_name(node.target)


def _uneven(node: fx.Node, mode: str) -> bool:
    """Whether a constant comes out as other numbers here and there: no bias makes up for that."""
    name = operator_name(node.target)
    chosen = mode in ("choice", "pad") or (node.target is operator.getitem and mode == "never")
    return chosen or name in _UNEVEN or name.startswith("fft_")


def _aliases(node: fx.Node) -> bool:
    """Whether the result shares memory with the first operand."""
    if node.target is operator.getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    shares = schema is not None and any(r.alias_info is not None for r in schema.returns)
    return shares and isinstance(node.args[0], fx.Node)


def _writes(node: fx.Node) -> bool:
    """Whether the operator changes its first operand in place."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _stays_zero(
    axis: str,
    mode: str,
    node: fx.Node,
    operands: Sequence[fx.Node],
    carries: Mapping[str, Axes],
    zero: Mapping[str, Axes],
    blank: Collection[str],
) -> bool:
    def zero_at(n: fx.Node) -> bool:
        return axis in zero[n.name]

    having = [n for n in operands if axis in carries[n.name]]
    if mode == "zero":
        return True
    if mode == "pad":
        return all(map(zero_at, having)) and not any(_numbers(node))
    if not having:
        return False
    if mode == "product":
        return any(map(zero_at, having))
    if mode == "never":
        return False
    if mode == "value":
        return node.args[2] in having and zero_at(node.args[2])
    if mode == "first":
        return zero_at(having[0]) and having[0] is node.args[0]
    if mode == "choice":
        values = [n for n in operands if _holds_values(n)]
        return all(n.name in blank or zero_at(n) for n in values) and not any(_numbers(node))
    if mode in ("affine", "bias-first"):
        bias = _bias(node) if mode == "affine" else node.args[0]
        factors = [n for n in having if n is not bias]
        fine = not isinstance(bias, fx.Node) or (bias in having and zero_at(bias))
        return fine and any(map(zero_at, factors))
    if mode == "affine-norm":
        # γ x̂ + β with γ = β = 0, or without either on a value that is zero.
        others = [n for n in having if n is not node.args[0]]
        if others:
            return all(map(zero_at, others))
        plain = operator_name(node.target) in ("rms_norm", "instance_norm")
        return plain and zero_at(having[0])
    if mode in ("move", "recurrent"):
        return all(map(zero_at, having))
    return all(n.name in blank or zero_at(n) for n in operands) and _maps_zero_to_zero(node)


def _holds_values(node: fx.Node) -> bool:
    """Whether a tensor is one of values, not of places or conditions."""
    value = node.meta.get("constant", node.meta.get("val"))
    if not isinstance(value, torch.Tensor):
        return True
    return value.dtype.is_floating_point or value.dtype.is_complex


def _blank_again(node: fx.Node, operands: Sequence[fx.Node], blank: Collection[str]) -> bool:
    return all(n.name in blank for n in operands) and _maps_zero_to_zero(node)


def _numbers(node: fx.Node) -> list[int | float]:
    """The plain numbers among the operands (dimensions and sizes are not operands)."""
    kinds = {argument.name: str(argument.type) for argument in node.target._schema.arguments}
    given = dict(zip(kinds, node.args, strict=False)) | node.kwargs
    operands = [a for name, a in given.items() if kinds[name] in ("number", "Optional[float]")]
    return [a for a in operands if isinstance(a, int | float)]


def _bias(node: fx.Node) -> Any:
    names = [argument.name for argument in node.target._schema.arguments]
    if "bias" not in names:
        return None
    position = names.index("bias")
    return node.args[position] if len(node.args) > position else node.kwargs.get("bias")


def _maps_zero_to_zero(node: fx.Node) -> bool:
    """Whether the operator makes zero of a zero, with the other arguments as they are."""
    given = [*node.args, *node.kwargs.values()]
    if any(isinstance(a, fx.Node) for a in leaves([v for v in given if isinstance(v, list)])):
        return False
    args = tuple(map(_operand, node.args))
    kwargs = {k: _operand(v) for k, v in node.kwargs.items() if not isinstance(v, fx.Node)}
    return _gives_zero(node.target, args, tuple(kwargs.items()))


def _operand(value: Any) -> tuple[type, Any]:
    """A zero of the dtype of a node; anything else as it is, told apart by type (1, 1.0, True)."""
    if isinstance(value, fx.Node):
        held = value.meta.get("val")
        return fx.Node, held.dtype if isinstance(held, torch.Tensor) else None
    if isinstance(value, torch.device):
        return torch.device, torch.device("cpu")  # zeros on the meta device have no values
    return type(value), tuple(value) if isinstance(value, list) else value


@cache
def _gives_zero(
    target: Any, args: tuple[tuple[type, Any], ...], kwargs: tuple[tuple[str, Any], ...]
) -> bool:
    def zero(operand: tuple[type, Any]) -> Any:
        kind, value = operand
        return torch.zeros((), dtype=value, device="cpu") if kind is fx.Node else value

    try:
        result = target(*map(zero, args), **{name: zero(value) for name, value in kwargs})
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(result, torch.Tensor) and not bool(result.any())
