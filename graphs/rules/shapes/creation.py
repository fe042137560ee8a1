"""Operators that make a value from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Dim
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.registry import operator_name, rule


@rule("zeros", "new_zeros", zero="zero", ends=True, makes=True, turns="made")
def zeros(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Zero everywhere: its dimensions take on whatever they meet."""
    return constant(ctx, *args, **kwargs)


@rule(
    *("ones", "full", "empty", "new_ones", "new_full", "new_empty"),
    zero="never",
    ends=True,
    makes=True,
    turns="made",
)
def constant(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """The same number everywhere: its dimensions take on whatever they meet."""
    position = 1 if operator_name(ctx.node.target).startswith("new_") else 0
    given: Any = ctx.node.args[position]
    dims: tuple[Dim, ...] = tuple(ctx.solver.fresh(n) for n in ctx.shape)
    if isinstance(given, Sequence):
        ctx.extent(
            position,
            [Extent(d) for d in dims],
        )
    return dims


@rule("zeros_like", zero="zero", makes=True, turns="made")
def zeros_like(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Zero everywhere, over another value's dimensions."""
    return x.dims


@rule("ones_like", "full_like", "empty_like", zero="never", makes=True, turns="made")
def constant_like(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """The same number everywhere, over another value's dimensions."""
    return x.dims


@rule(
    "arange",
    "linspace",
    "logspace",
    "eye",
    "scalar_tensor",
    "tril_indices",
    "triu_indices",
    zero="never",
    makes=True,
)
def numbered(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Positions that are told apart by their number."""
    return ctx.fixed(ctx.shape, "numbered positions")


@rule("rand", "randn", "randint", "randperm", "normal", zero="never", makes=True)
def random(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Random numbers: which unit gets which is settled by its place."""
    return ctx.fixed(ctx.shape, "random numbers")


@rule("rand_like", "randn_like", "randint_like", zero="never", makes=True)
@rule("bernoulli", "exponential", "multinomial", zero="never")
def random_like(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Random numbers over the dimensions of another value, by place: its axes are left alone.

    In training they only have to be as random for fewer units.
    """
    if not ctx.training:
        ctx.freeze(x.dims, "random numbers")
    return x.dims if len(x.dims) == len(ctx.shape) else ctx.fixed(ctx.shape, "random numbers")


@rule("meshgrid", "cartesian_prod", zero="never")
def grid(ctx: Context, tensors: Sequence[Value], *args: Any, **kwargs: Any) -> Any:
    """Coordinates of a grid."""
    for value in tensors:
        ctx.freeze(value.dims, "coordinates of a grid")
    results = tuple(ctx.fixed(s, "coordinates of a grid") for s in ctx.shapes)
    return results if isinstance(ctx.node.meta["val"], tuple | list) else results[0]
