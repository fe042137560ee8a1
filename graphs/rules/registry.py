"""The registry of operator rules: one decorated function an operator.

A rule receives the operands of one node as `Value`s (plain Python arguments as they are), states
through `Context.unify` which dimensions are the same, and returns the dimensions of the result. It
also names the integers of the call that follow from dimensions (`Context.extent`), so that the call
can be rewritten for smaller shapes, and what a dead unit becomes (`zero=`):

    "product"  zero when any operand that carries the axis is zero (mul, matmul)
    "affine"   like product, plus an operand `bias` that must be zero as well
    "choice"   zero when every operand that holds values, not places or conditions, is (where)
    "move"     zero when the operands that carry the axis are (view, cat, pooling)
    "recurrent" like move; what a weight's columns only read does not count
    "pad"      like move, and zero where the new positions are
    "zero"     zero (zeros)
    "first"    zero when the first operand is (div)
    "value"    zero when the third operand is (attention: a zero query still attends)
    "never"    not zero (softmax)
    "map"      found by applying the operator to zeros (relu yes, sigmoid no), all operands zero
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import EXACTNESS, Dim, Fixed
from graphs.axes.unify import Unifier
from graphs.places import place_of_stack

Dims = tuple[Dim, ...]
RuleFunction = Callable[..., Any]


@dataclass(frozen=True)
class Value:
    """An abstract tensor.

    Args:
        dims: its dimensions.
        shape: their sizes as traced.
        tensor: the parameter or buffer whose entries it holds, perhaps transposed or cast.
        node: the node that makes it.
        places: for each dimension, the dimension of `tensor` it is; None where it is none of them.
        still: whether it depends on no input of the model.
        numbers: the dimension whose units its entries number (the places that top-k returns).
    """

    dims: Dims
    shape: tuple[int, ...]
    tensor: str | None = None
    node: fx.Node | None = None
    places: tuple[int | None, ...] = ()
    still: bool = False
    numbers: Dim | None = None


@dataclass(frozen=True)
class Extent:
    """An integer argument that is the number of positions of a dimension.

    A size that is computed at run time (a batch times units) shrinks in proportion.
    `offset` is added to a stated one (the number of the last unit: -1).
    """

    dim: Dim
    offset: int = 0


@dataclass(frozen=True)
class Pinned:
    """An argument to state explicitly once `dim` shrinks: its default depends on the size."""

    dim: Dim
    value: Any


@dataclass(frozen=True)
class Inverse:
    """A number of the call in inverse proportion to the size of `dim`: `value` as traced."""

    dim: Dim
    value: float


@dataclass(frozen=True)
class Rule:
    """How an operator relates dimensions, what it makes of a dead unit, where axes may end."""

    function: RuleFunction
    zero: str
    ends: bool = False


@dataclass(frozen=True)
class Cost:
    """Multiply–accumulates of one node: the product of the sizes of `dims`."""

    node: str
    module: str
    dims: Dims


@dataclass
class Facts:
    """What rules state besides dimensions, for the whole program.

    Attributes:
        arguments: node name → {argument position or keyword: value with `Extent`, `Pinned` or
            `Inverse` inside}.
        costs: multiply–accumulates, node by node.
        contracted: (node name, dimension) pairs that an operator sums over.
        exactness: (dimension, class) pairs stated by norms and reductions.
        mean_squares: (node, dimension) pairs: a mean of squares, or a whole root-mean-square norm.
        minimum: (dimension, number of positions it must keep) pairs (top-k).
        roles: tensor name → role, the first one stated.
        consumed, produced: (tensor name, dimension index) seen on either side of a contraction.
    """

    arguments: dict[str, dict[int | str, Any]] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    exactness: list[tuple[Dim, str]] = field(default_factory=list)
    mean_squares: list[tuple[fx.Node, Dim]] = field(default_factory=list)
    minimum: list[tuple[Dim, int]] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    consumed: set[tuple[str, int]] = field(default_factory=set)
    produced: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Context:
    """What a rule sees of the node it explains."""

    node: fx.Node
    solver: Unifier
    facts: Facts
    module: str
    shapes: tuple[tuple[int, ...], ...]
    numbers: Dim | None = None
    """Set by a rule whose result numbers the units of a dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result."""
        return self.shapes[0]

    @property
    def where(self) -> str:
        """The operator and its place in the user's code, for reasons and errors."""
        return describe(self.node)

    def unify(self, a: Dim, b: Dim) -> Dim:
        """State that two dimensions are the same."""
        return self.solver.unify(a, b)

    def freeze(self, dims: Dim | Sequence[Dim], why: str) -> None:
        """Leave all axes of `dims` alone."""
        for dim in dims if isinstance(dims, Sequence) else (dims,):
            if not isinstance(dim, Fixed):
                self.solver.freeze(dim, f"{why} ({self.where})")

    def extent(self, argument: int | str, value: Any) -> None:
        """Name an argument of the call that follows from dimensions (`Extent`s inside)."""
        self.facts.arguments.setdefault(self.node.name, {})[argument] = value

    def cost(self, *dims: Dim) -> None:
        """State that the node multiplies and accumulates once per position of all `dims`."""
        self.facts.costs.append(Cost(self.node.name, self.module, dims))

    def exactness(self, dim: Dim, kind: str) -> None:
        """State a class of exactness for the axes of `dim`."""
        assert kind in EXACTNESS
        self.facts.exactness.append((dim, kind))

    def role(self, value: Value | None, role: str, consumed: Sequence[int] = ()) -> None:
        """State the role of a parameter, and which of its dimensions an input runs along."""
        if value is None or value.tensor is None:
            return
        self.facts.roles.setdefault(value.tensor, role)
        for i, place in enumerate(value.places):
            if place is not None:
                side = self.facts.consumed if i in consumed else self.facts.produced
                side.add((value.tensor, place))

    def fixed(self, shape: Sequence[int], reason: str) -> Dims:
        """Dimensions without units."""
        return tuple(Fixed(n, reason) for n in shape)

    def opaque(self, values: Sequence[Value], why: str) -> None:
        """Freeze all axes of the operands."""
        for value in values:
            self.freeze(value.dims, why)


RULES: dict[str, Rule] = {}


def rule(
    *names: str, zero: str = "map", ends: bool = False
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a rule for ATen operators by name, without overload (`"add"` is `add.Tensor`).

    Args:
        names: of operators.
        zero: what becomes of a dead unit; see the top of this file.
        ends: axes of operands may end here, because the operator sums over positions or picks some.
            An axis that ends at any other operator is frozen (`graphs.relate.overlooked`).
    """

    def register(function: RuleFunction) -> RuleFunction:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = Rule(function, zero, ends)
        return function

    return register


@cache
def operator_name(target: Any) -> str:
    """Registry key of an fx target: `aten.relu_.default` → `relu`; other namespaces keep theirs."""
    if not isinstance(target, torch._ops.OpOverload):
        return getattr(target, "__name__", str(target))
    namespace, name = target.overloadpacket._qualified_op_name.split("::")
    if namespace != "aten":
        return f"{namespace}.{name}"
    if name.startswith("__"):
        return name.strip("_").removeprefix("i")
    return name.rstrip("_") if not name.startswith("_") else name


CASTS = ("to", "_to_copy", "float", "type_as", "clone", "contiguous", "detach", "alias")
_MOVES = (*CASTS, "t", "mT", "numpy_T", "transpose", "permute", "index", "select")


def reparametrises(node: fx.Node) -> bool:
    """Whether a node scales or shifts its operands entry by entry."""
    return operator_name(node.target) in ("mul", "div", "add", "sub", "neg")


def moves_only(node: fx.Node) -> bool:
    """Whether a node hands the entries of its first operand on, in another place or dtype."""
    return operator_name(node.target) in _MOVES


def lookup(target: Any) -> Rule | None:
    """The rule of an fx target, or None when no rule understands it.

    A rule for one overload (`"max.other"`) goes before that for all of them.
    """
    name = operator_name(target)
    overload = getattr(target, "_overloadname", "")
    return RULES.get(f"{name}.{overload}") or RULES.get(name)


def describe(node: fx.Node) -> str:
    """`aten.topk at model.py:12`, for reasons that name a place in the user's code."""
    name = str(node.target) if node.op == "call_function" else node.name
    place = place_of_stack(node.meta.get("stack_trace"))
    return name if place is None else f"{name} at {place}"
