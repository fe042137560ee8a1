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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import EXACTNESS, Axis, all_atoms
from graphs.calls.nested import leaves
from graphs.program.program import Program
from graphs.relate.structure import Tensor
from graphs.rules.registry import Fate, known_of

Axes = frozenset[str]

# Operators whose sums over an axis vanish when one of the operands is zero there.
_PRODUCTS = ("product", "affine", "bias-first", "value", "recurrent")


def classify(
    program: Program,
    tensors: Mapping[str, Tensor],
    axes: Mapping[str, Axis],
    stated: Mapping[str, Sequence[str]],
) -> dict[str, Axis]:
    """Axes with their class of exactness.

    Args:
        program: the traced program.
        tensors: name → tensor.
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


def _summed_alive(program: Program, tensors: Mapping[str, Tensor]) -> set[tuple[str, str]]:
    """(axis, class) wherever an operator sums over an axis whose dead units are not zero."""
    fates = _Fates(program, tensors)
    for node in program.graph.nodes:
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor):
            fates.enter(node)
        elif node.op == "get_attr":
            fates.read_in(node)
        elif node.op == "call_function" and node.name in program.dims:
            fates.call(node)
    return fates.alive


class _Fates:
    """What becomes of a dead unit in every value of a program, from call to call.

    Args:
        program: the traced program.
        tensors: name → tensor.
    """

    def __init__(self, program: Program, tensors: Mapping[str, Tensor]) -> None:
        self.program, self.tensors = program, tensors
        self.alive: set[tuple[str, str]] = set()
        # Axes of a value; of these, those along which a dead unit is zero, and those along which it
        # does not depend on the input.
        self.carries: dict[fx.Node, Axes] = {}
        self.zero: dict[fx.Node, Axes] = {}
        self.constant: dict[fx.Node, Axes] = {}
        # Axes that a parameter is only read along (its columns).
        self.read: dict[fx.Node, Axes] = {}
        # Axes along some dimension that a parameter is read along; a square weight has both sides.
        self.columns: dict[fx.Node, Axes] = {}
        # Values that depend on no input, and values that are zero everywhere.
        self.still: set[fx.Node] = set()
        self.blank: set[fx.Node] = set()
        # Values that share memory, all in one list: writing into one writes into the others.
        self.sharing: dict[fx.Node, list[fx.Node]] = {}

    def enter(self, node: fx.Node) -> None:
        """An input of the model carries no units."""
        self.carries[node] = self.zero[node] = self.constant[node] = frozenset()

    def read_in(self, node: fx.Node) -> None:
        """A dead unit of a parameter is zero where the parameter produces."""
        tensor = self.tensors.get(str(node.target))
        rows: frozenset[str] = frozenset(tensor.axes_made if tensor is not None else ())
        columns: frozenset[str] = frozenset(tensor.axes_read if tensor is not None else ())
        self.zero[node], self.columns[node] = rows, columns
        self.carries[node] = self.constant[node] = rows | columns
        self.read[node] = columns - rows
        self.still.add(node)
        held = self.program.constants.get(str(node.target))
        if isinstance(held, torch.Tensor) and not held.is_meta and not held.any():
            self.blank.add(node)

    def call(self, node: fx.Node) -> None:
        """What the operator makes of the dead units of its operands, and whether it sums over any.

        Operands that carry nothing (sizes) are told apart: what depends on them is not known.
        """
        given = node.all_input_nodes
        operands = [n for n in given if n in self.carries]
        complete = len(operands) == len(given)
        if complete and self.still.issuperset(operands):
            self.still.add(node)
        known = known_of(node.target)
        mode: Fate = known.zero
        if node.target is operator.getitem:
            mode = "move" if holds_values(node) else "never"  # places of zeros are not zero
        self.carries[node] = all_atoms(self.program.dims[node.name])
        self._hand_columns_on(node, operands)
        if mode == "zero" or (operands and mode == "map" and self._blank_again(node, operands)):
            self.blank.add(node)
        self.zero[node] = self._stay_zero(node, mode, operands)
        self.constant[node] = self._stay_constant(node, mode, operands, complete)
        self._share(node)
        if node.target is operator.getitem or known.picks == "place":
            return  # positions are dropped, not summed over
        if node in self.still and known.statistic:
            return  # the rule says itself what becomes of a statistic of a weight
        self._sum(node, mode, operands)

    def _hand_columns_on(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        known = known_of(node.target)
        if operands and known.entries:
            self.columns[node] = self._columns(operands[0])
        elif node in self.still and known.shifts:
            self.columns[node] = frozenset().union(*map(self._columns, operands))

    def _columns(self, node: fx.Node) -> Axes:
        return self.columns.get(node, frozenset())

    def _blank_again(self, node: fx.Node, operands: Sequence[fx.Node]) -> bool:
        return self.blank.issuperset(operands) and _maps_zero_to_zero(node)

    def _stay_zero(self, node: fx.Node, mode: str, operands: Sequence[fx.Node]) -> Axes:
        zero: Mapping[fx.Node, Axes] = self.zero
        if mode == "recurrent":
            # What is fed back is read by the columns of a weight and made by its rows.
            zero = {n: self.zero[n] | self.read.get(n, frozenset()) for n in operands}
        return frozenset(
            axis
            for axis in self.carries[node]
            if _stays_zero(axis, mode, node, operands, self.carries, zero, self.blank)
        )

    def _stay_constant(
        self, node: fx.Node, mode: str, operands: Sequence[fx.Node], complete: bool
    ) -> Axes:
        if not complete or _uneven(node, mode):
            return self.zero[node]
        unmoved = [n for n in operands if n not in self.still]
        # What differs from place to place makes a constant differ, unless it is along the axis.
        varied = [n for n in operands if n in self.still and not _single(n)]
        found = self.carries[node].intersection(
            *(self.constant[n] for n in unmoved), *(self.carries[n] for n in varied)
        )
        return self.zero[node] | found

    def _share(self, node: fx.Node) -> None:
        """Let a value that is written to change those that share its memory."""
        views = self.sharing.get(node.args[0], []) if aliases(node) else []
        views.append(node)
        self.sharing[node] = views
        if not writes(node.target):
            return
        out = self.carries[node]
        whole = node.args[0] is views[0]
        for view in views:
            self.zero[view] -= out - self.zero[node]
            self.constant[view] -= out - (self.constant if whole else self.zero)[node]

    def _sum(self, node: fx.Node, mode: str, operands: Sequence[fx.Node]) -> None:
        summed = frozenset().union(*(self.carries[n] for n in operands)) - self.carries[node]
        product = mode in _PRODUCTS
        if product and node not in self.still:
            summed = summed.union(*map(self._columns, operands))
        for axis in summed:
            having = [n for n in operands if axis in self.carries[n]]
            gone = (axis in self.zero[n] and axis not in self._columns(n) for n in having)
            if any(gone) if product else all(gone):
                continue
            moved = [n for n in having if n not in self.still]
            fixed = bool(moved) and all(axis in self.constant[n] for n in moved)
            fixed = fixed and not _padded(node)
            self.alive.add((axis, "bias-fold" if fixed else "data-dependent"))


def _single(node: fx.Node) -> bool:
    """Whether a value is one number."""
    held = node.meta.get("val")
    return isinstance(held, torch.Tensor) and all(n == 1 for n in held.shape)


def _padded(node: fx.Node) -> bool:
    """Whether a convolution sees zeros around its input, where a constant is none."""
    convolves = known_of(node.target).convolves
    if not convolves:
        return False
    padding = node.args[4] if len(node.args) > 4 else node.kwargs.get("padding", 0)
    sizes = padding if isinstance(padding, list | tuple) else [padding]
    return padding == "same" or any(sizes) or convolves == "transposed"


def _uneven(node: fx.Node, mode: str) -> bool:
    """Whether a constant comes out as other numbers here and there: no bias makes up for that."""
    chosen = mode in ("choice", "pad") or (node.target is operator.getitem and mode == "never")
    return chosen or known_of(node.target).uneven


def aliases(node: fx.Node) -> bool:
    """Whether the result shares memory with the first operand."""
    if node.target is operator.getitem:
        return True
    return _returns_a_view(node.target) and isinstance(node.args[0], fx.Node)


@cache
def _returns_a_view(target: Any) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and any(r.alias_info is not None for r in schema.returns)


@cache
def writes(target: Any) -> bool:
    """Whether an operator changes its first operand in place."""
    return bool(getattr(getattr(target, "_schema", None), "is_mutable", False))


def _stays_zero(
    axis: str,
    mode: str,
    node: fx.Node,
    operands: Sequence[fx.Node],
    carries: Mapping[fx.Node, Axes],
    zero: Mapping[fx.Node, Axes],
    blank: Collection[fx.Node],
) -> bool:
    def zero_at(n: fx.Node) -> bool:
        return axis in zero[n]

    having = [n for n in operands if axis in carries[n]]
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
        values = [n for n in operands if holds_values(n)]
        return all(n in blank or zero_at(n) for n in values) and not any(_numbers(node))
    if mode in ("affine", "bias-first"):
        bias = _bias(node) if mode == "affine" else node.args[0]
        factors = [n for n in having if n is not bias]
        fine = not isinstance(bias, fx.Node) or (bias in having and zero_at(bias))
        return fine and any(map(zero_at, factors))
    if mode in ("affine-norm", "unit-norm"):
        # γ x̂ + β with γ = β = 0, or without either on a value that is zero.
        others = [n for n in having if n is not node.args[0]]
        if others:
            return all(map(zero_at, others))
        return mode == "unit-norm" and zero_at(having[0])
    if mode in ("move", "recurrent"):
        return all(map(zero_at, having))
    return all(n in blank or zero_at(n) for n in operands) and _maps_zero_to_zero(node)


def holds_values(node: fx.Node) -> bool:
    """Whether a tensor is one of values, not of places or conditions."""
    value = node.meta.get("constant", node.meta.get("val"))
    if not isinstance(value, torch.Tensor):
        return True
    return value.dtype.is_floating_point or value.dtype.is_complex


def _numbers(node: fx.Node) -> list[int | float]:
    """The plain numbers among the operands (dimensions and sizes are not operands)."""
    kinds = {argument.name: str(argument.type) for argument in node.target._schema.arguments}
    given = dict(zip(kinds, node.args, strict=False)) | node.kwargs
    operands = [a for name, a in given.items() if kinds[name] in ("number", "Optional[float]")]
    return [a for a in operands if isinstance(a, int | float)]


def _bias(node: fx.Node) -> Any:
    position = _place_of_bias(node.target)
    if position is None:
        return None
    return node.args[position] if len(node.args) > position else node.kwargs.get("bias")


@cache
def _place_of_bias(target: Any) -> int | None:
    names = [argument.name for argument in target._schema.arguments]
    return names.index("bias") if "bias" in names else None


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
