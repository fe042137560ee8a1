"""Operators that make a value from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.dims import Dim
from graphs.rules.registry import Context, Dims, Extent, Value, operator_name, rule


@rule("zeros", "new_zeros", zero="zero")
def zeros(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Zero everywhere: its dimensions take on whatever they meet."""
    return constant(ctx, *args, **kwargs)


@rule("ones", "full", "empty", "new_ones", "new_full", "new_empty", zero="never")
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


@rule("zeros_like", zero="zero")
def zeros_like(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Zero everywhere, over another value's dimensions."""
    return x.dims


@rule("ones_like", "full_like", "empty_like", zero="never")
def constant_like(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """The same number everywhere, over another value's dimensions."""
    return x.dims


@rule("arange", "linspace", "eye", "scalar_tensor", "rand", "randn", "randint", "tril", "triu")
def numbered(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Positions that are told apart by their number."""
    for value in args:
        if isinstance(value, Value):
            ctx.freeze(value.dims, "a triangular mask")
    return ctx.fixed(ctx.shape, "numbered positions")
