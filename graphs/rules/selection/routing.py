"""Mixtures of experts: routers that pick units by number, and what is looked up by those numbers.

The places that top-k returns are numbers of units. As long as they are only used to look something
up along the axis they number (an expert's matrices, a count for each expert), that axis may be
permuted and cut. Where anything else is done with them the axis is frozen (`follow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from graphs.axes.dims import Dim, Fixed, atoms
from graphs.rules import labels
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.registry import known_of, operator_name, rule

_GROUPED = ("_grouped_mm", "grouped_mm", "transformers.grouped_mm_fallback")


def follow(ctx: Context, operands: Sequence[Value]) -> tuple[int, Dim] | None:
    """Which result numbers units, and of which axis; freezes the axes that nothing follows."""
    numbered = [v for v in operands if v.numbers is not None]
    if not numbered:
        return ctx.numbers
    use = known_of(ctx.node.target).numbers
    first = operands[0]
    if "kept" in use and first.numbers is not None:
        for value in numbered:
            ctx.unify(first.numbers, value.numbers)  # type: ignore[arg-type]
        return 0, first.numbers
    if "read" not in use:
        for value in numbered:
            ctx.freeze(value.numbers, "its numbers are computed with")  # type: ignore[arg-type]
    return ctx.numbers


def looked_up(ctx: Context, dim: Dim, table: Value, why: str) -> None:
    """State that `table` looks positions of `dim` up by number."""
    if table.numbers is None:
        ctx.freeze(dim, why)
    else:
        ctx.solver.set_kind(ctx.unify(dim, table.numbers), "expert")


def feeds_top_k(node: fx.Node) -> bool:
    """Whether all that becomes of a softmax is a choice of the largest."""
    # No fact of top-k and gather: together they are how routers are spelled.
    users = list(node.users)
    return bool(users) and all(
        operator_name(u.target) in ("topk", "gather")
        or (known_of(u.target).entries == "same" and feeds_top_k(u))
        for u in users
    )


def marks_groups(node: fx.Node) -> bool:
    """Whether a cumulative sum only says where each expert's tokens end."""
    users = list(node.users)
    return bool(users) and all(
        (u.op == "call_function" and operator_name(u.target) in _GROUPED)
        or (known_of(u.target).entries == "same" and marks_groups(u))
        for u in users
    )


@rule("topk", zero="never", ends=True)
def top_k(ctx: Context, x: Value, k: Any, dim: int = -1, *args: Any, **kwargs: Any) -> Any:
    """Values and numbers of the k largest along `dim`, which keeps at least k units."""
    dim = int(kwargs.get("dim", dim)) % len(x.dims)
    units = x.dims[dim]
    if isinstance(k, int):
        ctx.exactness(units, "data-dependent")
        ctx.facts.minimum.append((units, k))
        ctx.numbers = 1, units
    else:
        ctx.freeze(units, "top-k of a number computed at run time")
    picked = (*x.dims[:dim], Fixed(ctx.shape[dim], "top k"), *x.dims[dim + 1 :])
    return picked, picked


@rule(*_GROUPED, zero="product", ends=True, turns="contract", labels=labels.grouped)
def grouped_matmul(
    ctx: Context,
    x: Value,
    weight: Value,
    offsets: Value | None = None,
    bias: Value | None = None,
    *args: Any,
    **kwargs: Any,
) -> Dims:
    """X (tokens sorted by expert, in) times W (experts, in, out) of each token's expert."""
    if len(weight.dims) != 3 or len(x.dims) != 2 or offsets is None:
        ctx.opaque([v for v in (x, weight, bias) if v is not None], "a grouped product without W")
        return ctx.fixed(ctx.shape, "result of a grouped product")
    experts, inside, out = weight.dims
    inside = ctx.unify(x.dims[1], inside)
    ctx.solver.set_kind(ctx.unify(experts, offsets.dims[0]), "expert")
    ctx.solver.set_kind(out, "feature")
    ctx.role(weight, "weight", consumed=(1,))
    if bias is not None:
        out = ctx.unify(out, bias.dims[-1])
        ctx.role(bias, "bias")
    ctx.cost(x.dims[0], out, inside)
    return (x.dims[0], out)


@rule("histc", "bincount", zero="never", ends=True, numbers="read")
def count(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """How many tokens each expert has."""
    (n,) = ctx.shape
    stated = operator_name(ctx.node.target) == "histc" and len(args) == 3
    if x.numbers is None or not stated or ctx.solver.size(x.numbers) != n:
        if x.numbers is not None:
            ctx.freeze(x.numbers, "counted in other bins than one for each unit")
        for dim in x.dims:
            ctx.exactness(dim, "data-dependent")  # zeros are counted too
        return ctx.fixed(ctx.shape, "counted")
    ctx.extent(1, Extent(x.numbers))
    ctx.extent(3, Extent(x.numbers, offset=args[2] - n))
    return (x.numbers,)


@rule("one_hot", zero="never", ends=True, numbers="read")
def one_hot(ctx: Context, x: Value, classes: Any = -1) -> Dims:
    """A position for each unit that a number may name."""
    if x.numbers is None or ctx.solver.size(x.numbers) != ctx.shape[-1]:
        if x.numbers is not None:
            ctx.freeze(x.numbers, "one-hot of another width than the number of units")
        return (*x.dims, Fixed(ctx.shape[-1], "one-hot"))
    ctx.extent(1, Extent(x.numbers))
    return (*x.dims, x.numbers)


def has_units(ctx: Context, dim: Dim) -> bool:
    """Whether any axis of a dimension may still be cut."""
    return any(name not in ctx.solver.frozen for name in atoms(ctx.solver.resolve(dim)))
