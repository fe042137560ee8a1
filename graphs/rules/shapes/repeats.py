"""Operators that repeat positions: the copies are interchangeable, an axis of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Dim, Fixed, product
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.registry import rule


@rule("repeat", "tile", zero="move", turns="each")
def repeat(ctx: Context, x: Value, repeats: Sequence[Any]) -> Dims:
    """Whole dimensions one after another: position = copy × place."""
    rank = len(ctx.shape)
    old = [Fixed(1)] * (rank - len(x.dims)) + list(x.dims)
    sizes = [1] * (rank - len(x.dims)) + list(x.shape)
    given = list(ctx.node.args[1])
    given = [1] * (rank - len(given)) + given
    copies = [
        ctx.solver.fresh(n // m) if isinstance(g, int) and n != m else Fixed(n // m, "copies")
        for n, m, g in zip(ctx.shape, sizes, given, strict=True)
    ]
    ctx.extent(
        1,
        [Extent(c) if isinstance(g, int) else g for c, g in zip(copies, given, strict=True)][
            -len(repeats) :
        ],
    )
    return tuple(product((c, d)) for c, d in zip(copies, old, strict=True))


@rule("repeat_interleave", zero="move", homogeneous=True, numbers="kept", turns="each")
def repeat_interleave(
    ctx: Context, x: Value, repeats: Any = None, dim: int | None = None, **kwargs: Any
) -> Dims:
    """Every position several times in a row: position = place × copy."""
    if repeats is None or isinstance(repeats, Value):
        ctx.opaque([x], "positions are repeated by a tensor of counts")
        return ctx.fixed(ctx.shape, "positions repeated by a tensor of counts")
    dims: list[Dim] = list(x.dims)
    if dim is None:
        dims = list(ctx.solver.reshape(x.dims, (_count(x.shape),), "a flatten does not divide"))
        dim = 0
    copies = ctx.solver.fresh(int(repeats)) if int(repeats) > 1 else Fixed(1)
    dims[dim] = product((dims[dim], copies))
    ctx.extent(1, Extent(copies))
    if kwargs.get("output_size") is not None:
        ctx.extent("output_size", Extent(dims[dim]))
    return tuple(dims)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
