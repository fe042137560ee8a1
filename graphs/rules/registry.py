"""The registry of operator rules: one decorated function an operator.

A rule receives the operands of one node as `Value`s (plain Python arguments as they are), states
through `Context.unify` which dimensions are the same, and returns the dimensions of the result. It
also names the integers of the call that follow from dimensions (`Context.extent`), so that the call
can be rewritten for smaller shapes, and what a dead unit becomes (`zero=`):

    "product"  zero when any operand that carries the axis is zero (mul, matmul)
    "affine"   like product, plus an operand `bias` that must be zero as well
    "bias-first" like affine, the bias being the first operand
    "affine-norm" zero when scale and shift are
    "unit-norm" like affine-norm; zero without either where the first operand is (rms_norm)
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
from typing import Any, Literal

import torch
from torch import fx

from graphs.axes.dims import EXACTNESS, Dim, Fixed
from graphs.axes.unify import Unifier
from graphs.places import place_of_stack
from graphs.tools.registry import Registry

Dims = tuple[Dim, ...]
RuleFunction = Callable[..., Any]
Fate = Literal[
    "product",
    "affine",
    "bias-first",
    "affine-norm",
    "unit-norm",
    "choice",
    "move",
    "recurrent",
    "pad",
    "zero",
    "first",
    "value",
    "never",
    "map",
]
"""What becomes of a dead unit; see the top of this file."""


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
    """How an operator relates dimensions, and what it is; `rule` says what the fields mean."""

    function: RuleFunction
    zero: Fate = "map"
    ends: bool = False
    picks: Literal["", "place", "number"] = ""
    entries: Literal["", "same", "moved"] = ""
    shifts: bool = False
    homogeneous: bool = False
    uneven: bool = False
    statistic: bool = False
    convolves: Literal["", "forward", "transposed"] = ""
    makes: bool = False
    numbers: Literal["", "kept", "read", "kept or read"] = ""
    training: int | None = None
    spelled: Callable[..., Any] | None = None

    @property
    def normalises(self) -> bool:
        """Whether it subtracts a mean or divides by a deviation, then scales and shifts."""
        return self.zero in ("affine-norm", "unit-norm")


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
    numbers: tuple[int, Dim] | None = None
    """Set by a rule: which of the results numbers the units of a dimension, and of which."""

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


RULES: Registry[Rule] = Registry("rule for operator")


def rule(
    *names: str,
    zero: Fate = "map",
    ends: bool = False,
    picks: Literal["", "place", "number"] = "",
    entries: Literal["", "same", "moved"] = "",
    shifts: bool = False,
    homogeneous: bool = False,
    uneven: bool = False,
    statistic: bool = False,
    convolves: Literal["", "forward", "transposed"] = "",
    makes: bool = False,
    numbers: Literal["", "kept", "read", "kept or read"] = "",
    training: int | None = None,
    spelled: Callable[..., Any] | None = None,
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a rule for operators by name, with what else is known of them.

    Args:
        names: of ATen operators without overload (`"add"` is `add.Tensor`), of others with their
            namespace (`"mylib.scan"`).
        zero: what becomes of a dead unit; see the top of this file.
        ends: axes of operands may end here, because the operator sums over positions or picks some.
            An axis that ends at any other operator is frozen (`graphs.relate.overlooked`).
        picks: results are some positions of the first operand, told by their place (a slice) or by
            the entries of another operand (an index).
        entries: the result has the entries of the first operand, as they are (a cast, a copy) or in
            another place (a transpose), and no others.
        shifts: scales or shifts its operands entry by entry, so that a parameter stays what it is.
        homogeneous: for c > 0 of a unit, f(c x) = c f(x) along the axis of the unit.
        uneven: makes of equal numbers different ones, by their places.
        statistic: depends on how many units there are; the rule states what that means for them.
        convolves: slides a kernel over positions, as `conv` or as `conv_transpose` does.
        makes: makes a tensor, of the default dtype where its argument `dtype` says no other.
        numbers: where entries number units (the places of top-k), those of the first result still
            do ("kept"), or they are used to look something up, which the rule states ("read").
        training: the position of the flag that tells training from evaluation.
        spelled: the operator to call instead where an argument follows a size that changed.

    Raises:
        ValueError: an operator has a rule already.
    """

    def register(function: RuleFunction) -> RuleFunction:
        known = Rule(
            function=function,
            zero=zero,
            ends=ends,
            picks=picks,
            entries=entries,
            shifts=shifts,
            homogeneous=homogeneous,
            uneven=uneven,
            statistic=statistic,
            convolves=convolves,
            makes=makes,
            numbers=numbers,
            training=training,
            spelled=spelled,
        )
        for name in names:
            RULES.add(name, known)
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


def lookup(target: Any) -> Rule | None:
    """The rule of an fx target, or None when no rule understands it.

    A rule for one overload (`"max.other"`) goes before that for all of them.
    """
    one, every = _keys(target)
    return RULES.get(one) or RULES.get(every)


@cache
def _keys(target: Any) -> tuple[str, str]:
    name = operator_name(target)
    return f"{name}.{getattr(target, '_overloadname', '')}", name


def known_of(target: Any) -> Rule:
    """What is known of an fx target; of one without a rule, nothing."""
    return lookup(target) or _UNKNOWN


def _refuse(ctx: Context, *operands: Any, **named: Any) -> Any:
    raise NotImplementedError(f"no rule for {ctx.where}")


_UNKNOWN = Rule(_refuse)


def describe(node: fx.Node) -> str:
    """`aten.topk at model.py:12`, for reasons that name a place in the user's code."""
    name = str(node.target) if node.op == "call_function" else node.name
    place = place_of_stack(node.meta.get("stack_trace"))
    return name if place is None else f"{name} at {place}"
