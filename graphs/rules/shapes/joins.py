"""Shorthands of concatenation."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.axes.dims import Fixed
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import rule
from graphs.rules.shapes.views import cat


@rule("hstack", "vstack", "row_stack", "dstack", "column_stack", zero="move")
def stack_along(ctx: Context, tensors: Sequence[Value]) -> Dims:
    """Concatenation along the second, first, third or second dimension."""
    name = str(ctx.node.target)
    rank = len(ctx.shape)
    dim = 2 if "dstack" in name else 0 if "vstack" in name or "row_stack" in name else 1
    if any(len(t.dims) != rank for t in tensors):
        ctx.opaque(tensors, "vectors are made matrices")
        return ctx.fixed(ctx.shape, "vectors made matrices")
    return cat(ctx, tensors, min(dim, rank - 1))


@rule("block_diag", zero="move")
def block_diagonal(ctx: Context, tensors: Sequence[Value]) -> Dims:
    """Matrices along the diagonal of one matrix."""
    ctx.opaque(tensors, "blocks of a matrix")
    return tuple(Fixed(n, "blocks of a matrix") for n in ctx.shape)
