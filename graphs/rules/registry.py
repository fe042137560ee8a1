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

and what becomes of a vector over units that is multiplied by a matrix (`turns=`, used by
`graphs.symmetries`); f is linear where it says nothing else:

    "each"     it is multiplied by the same matrix: f acts on the other dimensions, or copies
    "sum", "product", "quotient", "square"     entry by entry
    "join"     results are side by side: a concatenation, a choice by places
    "choice"   like join, of one of two values by a condition
    "pad"      like each, where the new positions are zero
    "reduce", "variance", "length"     sums, variances and lengths, along it or along others
    "contract" sums of products, as `labels=` states them
    "attention", "norm", "batch norm"     what their names say
    "made"     numbers that are the same for all units
    ""         something else, or not known
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import fx

from graphs.rules.context import Context
from graphs.rules.labels import Contraction, Rank
from graphs.tools.registry import Registry

RuleFunction = Callable[..., Any]
Labels = Callable[[fx.Node, Rank], Contraction | None]
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

Turning = Literal[
    "",
    "each",
    "sum",
    "product",
    "quotient",
    "square",
    "join",
    "choice",
    "pad",
    "reduce",
    "variance",
    "length",
    "contract",
    "attention",
    "norm",
    "batch norm",
    "made",
]
"""What becomes of a vector of units that is turned; see the top of this file."""


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
    turns: Turning = ""
    labels: Labels | None = None

    @property
    def normalises(self) -> bool:
        """Whether it subtracts a mean or divides by a deviation, then scales and shifts."""
        return self.zero in ("affine-norm", "unit-norm")


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
    turns: Turning = "",
    labels: Labels | None = None,
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
        turns: what becomes of a vector of units that is turned; see the top of this file.
        labels: for "contract", which dimensions are summed over and which pass.

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
            turns=turns,
            labels=labels,
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
