"""Operators that move positions without changing values: views, cuts, joins, paddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphs.axes.dims import Dim, Fixed, atoms, concat
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.entries.elementwise import broadcast
from graphs.rules.registry import rule


def _extents(dims: Dims, given: Sequence[Any]) -> list[Any]:
    """Sizes of a view as `Extent`s; -1 stays."""
    return [
        g if isinstance(g, int) and g == -1 else Extent(d) for d, g in zip(dims, given, strict=True)
    ]


@rule(
    "view",
    "reshape",
    "_unsafe_view",
    "view_copy",
    zero="move",
    homogeneous=True,
    numbers="kept",
    turns="each",
)
def view(ctx: Context, x: Value, shape: Any) -> Dims:
    """Row-major regrouping of positions."""
    if not isinstance(shape, Sequence):
        return x.dims  # view(dtype)
    dims = ctx.solver.reshape(x.dims, ctx.shape, f"a view does not divide ({ctx.where})")
    ctx.extent(1, _extents(dims, ctx.node.args[1]))
    return dims


@rule("view_as", "reshape_as", zero="move", turns="each")
def view_as(ctx: Context, x: Value, other: Value) -> Dims:
    """Row-major regrouping into the shape of another value."""
    dims = ctx.solver.reshape(x.dims, ctx.shape, f"a view does not divide ({ctx.where})")
    return tuple(ctx.unify(a, b) for a, b in zip(dims, other.dims, strict=True))


@rule("flatten", zero="move", homogeneous=True, numbers="kept", turns="each")
def flatten(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Neighbouring dimensions become one product."""
    return ctx.solver.reshape(x.dims, ctx.shape, f"a flatten does not divide ({ctx.where})")


@rule("unflatten", zero="move", homogeneous=True, turns="each")
def unflatten(ctx: Context, x: Value, dim: int, sizes: Sequence[Any]) -> Dims:
    """One dimension becomes a product."""
    dims = ctx.solver.reshape(x.dims, ctx.shape, f"an unflatten does not divide ({ctx.where})")
    dim %= len(x.dims)
    given: Any = ctx.node.args[2]
    ctx.extent(2, _extents(dims[dim : dim + len(given)], given))
    return dims


@rule("squeeze", "unsqueeze", zero="move", homogeneous=True, numbers="kept", turns="each")
def squeeze(ctx: Context, x: Value, *args: Any) -> Dims:
    """Dimensions of size 1 come and go."""
    return ctx.solver.reshape(x.dims, ctx.shape, "squeeze")


@rule("permute", zero="move", entries="moved", homogeneous=True, numbers="kept", turns="each")
def permute(ctx: Context, x: Value, order: Sequence[int]) -> Dims:
    """Dimensions change places."""
    return tuple(x.dims[i] for i in order)


@rule(
    "transpose",
    "swapaxes",
    zero="move",
    entries="moved",
    homogeneous=True,
    numbers="kept",
    turns="each",
)
def transpose(ctx: Context, x: Value, a: int, b: int) -> Dims:
    """Two dimensions change places."""
    dims = list(x.dims)
    dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


@rule("t", "numpy_T", "mT", zero="move", entries="moved", homogeneous=True, turns="each")
def matrix_transpose(ctx: Context, x: Value) -> Dims:
    """The last two dimensions change places (all of a matrix)."""
    return (*x.dims[:-2], *reversed(x.dims[-2:]))


@rule("movedim", zero="move", homogeneous=True, turns="each")
def movedim(ctx: Context, x: Value, source: Any, destination: Any) -> Dims:
    """Dimensions change places."""
    rank = len(x.dims)
    src = [s % rank for s in ([source] if isinstance(source, int) else source)]
    dst = [d % rank for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(i for i in range(rank) if i not in src)
    return tuple(x.dims[src[dst.index(i)] if i in dst else next(rest)] for i in range(rank))


@rule("expand", "broadcast_to", zero="move", homogeneous=True, numbers="kept", turns="each")
def expand(ctx: Context, x: Value, shape: Sequence[Any], **kwargs: Any) -> Dims:
    """Repeats positions of size 1; the copies form a new axis until something says otherwise."""
    dims: list[Dim] = []
    lead = len(ctx.shape) - len(x.dims)
    for i, n in enumerate(ctx.shape):
        old = x.dims[i - lead] if i >= lead else Fixed(1)
        same = i >= lead and x.shape[i - lead] == n
        dims.append(old if same else ctx.solver.fresh(n))
    ctx.extent(1, _extents(tuple(dims), ctx.node.args[1]))
    return tuple(dims)


@rule("expand_as", zero="move", turns="each")
def expand_as(ctx: Context, x: Value, other: Value) -> Dims:
    """Broadcast against another value's shape."""
    return broadcast(ctx, [x, other])


@rule("cat", "concat", "concatenate", zero="move", homogeneous=True, numbers="kept", turns="join")
def cat(ctx: Context, tensors: Sequence[Value], dim: int = 0) -> Dims:
    """A concatenation along `dim`; the other dimensions agree."""
    tensors = [t for t in tensors if len(t.dims) == len(ctx.shape)]
    dim %= len(ctx.shape)
    out: list[Dim] = []
    for i in range(len(ctx.shape)):
        if i == dim:
            out.append(concat(t.dims[i] for t in tensors))
            continue
        shared = tensors[0].dims[i]
        for other in tensors[1:]:
            merged = ctx.unify(shared, other.dims[i])
            shared = merged if atoms(merged) else shared
        out.append(shared)
    return tuple(out)


@rule("stack", zero="move", homogeneous=True, turns="join")
def stack(ctx: Context, tensors: Sequence[Value], dim: int = 0) -> Dims:
    """A new dimension whose positions are the operands."""
    dims = list(tensors[0].dims)
    for other in tensors[1:]:
        dims = [ctx.unify(a, b) for a, b in zip(dims, other.dims, strict=True)]
    dims.insert(dim % (len(dims) + 1), Fixed(len(tensors), "stacked operands"))
    return tuple(dims)


def _cut(ctx: Context, x: Value, dim: int, start: int, end: int) -> tuple[Dim, Dim] | None:
    """(part before, part kept) of a dimension, or None and frozen when there is no seam."""
    whole = x.dims[dim]
    first = ctx.solver.split(whole, start)
    second = first and ctx.solver.split(first[1], end - start)
    if first is None or second is None:
        ctx.freeze(whole, "a slice cuts through units")
        return None
    return first[0], second[0]


@rule(
    "slice", zero="move", ends=True, picks="place", homogeneous=True, numbers="kept", turns="each"
)
def slice_(
    ctx: Context, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Dims:
    """A run of positions; with a step, one place of every `step` neighbours."""
    dim %= len(x.dims)
    n, kept = x.shape[dim], ctx.shape[dim]
    dims = list(x.dims)
    if n == kept:
        return x.dims
    if not atoms(ctx.solver.resolve(x.dims[dim])):
        dims[dim] = Fixed(kept, "slice of a fixed dimension")
        return tuple(dims)
    begin = 0 if start is None else int(start)
    begin = max(begin + n, 0) if begin < 0 else min(begin, n)
    if step != 1:
        parts = ctx.solver.factor(x.dims[dim], step) if n % step == 0 else None
        offset = begin % step
        inner = parts and ctx.solver.split(parts[1], offset)
        chosen = inner and ctx.solver.split(inner[1], 1)
        if parts is None or chosen is None or begin >= step or kept != n // step:
            ctx.freeze(x.dims[dim], "a strided slice cuts through units")
            dims[dim] = Fixed(kept, "strided slice")
        else:
            ctx.freeze(parts[1], "neighbours told apart by a strided slice")
            dims[dim] = parts[0]
        return tuple(dims)
    cut = _cut(ctx, x, dim, begin, begin + kept)
    if cut is None:
        dims[dim] = Fixed(kept, f"a slice cuts through units ({ctx.where})")
        return tuple(dims)
    before, dims[dim] = cut
    ctx.extent(2, Extent(before))
    ctx.extent(3, Extent(concat((before, dims[dim]))))
    return tuple(dims)


@rule("narrow", zero="move", ends=True, picks="place", homogeneous=True, turns="each")
def narrow(ctx: Context, x: Value, dim: int, start: int, length: int) -> Dims:
    """A run of positions."""
    dim %= len(x.dims)
    cut = _cut(ctx, x, dim, int(start), int(start) + ctx.shape[dim])
    dims = list(x.dims)
    if cut is None:
        dims[dim] = Fixed(ctx.shape[dim], f"a slice cuts through units ({ctx.where})")
        return tuple(dims)
    before, dims[dim] = cut
    ctx.extent(2, Extent(before))
    ctx.extent(3, Extent(dims[dim]))
    return tuple(dims)


def _pieces(ctx: Context, x: Value, dim: int) -> tuple[Dims, ...] | None:
    """Dimensions of the results of a split along `dim`; None and frozen when there is no seam."""
    parts: list[Dim] = []
    rest: Dim = x.dims[dim]
    for shape in ctx.shapes[:-1]:
        cut = ctx.solver.split(rest, shape[dim])
        if cut is None:
            ctx.freeze(x.dims[dim], "a split cuts through units")
            return None
        parts.append(cut[0])
        rest = cut[1]
    parts.append(rest)
    return tuple((*x.dims[:dim], part, *x.dims[dim + 1 :]) for part in parts)


@rule(
    "split_with_sizes",
    zero="move",
    ends=True,
    picks="place",
    homogeneous=True,
    turns="each",
)
@rule(
    *("split", "chunk", "tensor_split"),
    zero="move",
    ends=True,
    picks="place",
    homogeneous=True,
    spelled=torch.ops.aten.split_with_sizes.default,
    turns="each",
)
def split(ctx: Context, x: Value, sizes: Any, dim: int = 0) -> Any:
    """Consecutive pieces; the call is rewritten with the sizes of the pieces spelled out."""
    dim %= len(x.dims)
    pieces = _pieces(ctx, x, dim)
    if pieces is None:
        return tuple(ctx.fixed(s, "a split cuts through units") for s in ctx.shapes)
    ctx.extent(1, [Extent(p[dim]) for p in pieces])
    return pieces


@rule("pad", "constant_pad_nd", zero="pad", turns="pad")
def pad(
    ctx: Context, x: Value, pads: Sequence[Any], mode: str = "constant", value: Any = None
) -> Dims:
    """New positions around the old ones; on a dimension with units they are units of their own."""
    dims, given = list(x.dims), list(ctx.node.args[1])
    extents: list[Any] = list(given)
    for i in range(len(pads) // 2):
        dim = len(dims) - 1 - i
        before, after = pads[2 * i], pads[2 * i + 1]
        if not before and not after:
            continue
        if not atoms(ctx.solver.resolve(dims[dim])):
            dims[dim] = Fixed(ctx.shape[dim], "padded positions")
            continue
        if mode != "constant" or value or min(before, after) < 0:
            ctx.freeze(dims[dim], f"padded by mode {mode!r}, value {value}")
            dims[dim] = Fixed(ctx.shape[dim], "padded positions")
            continue
        ends = [ctx.solver.fresh(n) if n else Fixed(0) for n in (before, after)]
        extents[2 * i], extents[2 * i + 1] = Extent(ends[0]), Extent(ends[1])
        dims[dim] = concat((ends[0], dims[dim], ends[1]))
    ctx.extent(1, extents)
    return tuple(dims)


@rule("channel_shuffle", zero="move", homogeneous=True)
def channel_shuffle(ctx: Context, x: Value, groups: int) -> Dims:
    """(group × place) becomes (place × group)."""
    n = x.shape[1]
    group, place = ctx.solver.reshape((x.dims[1],), (groups, n // groups), "uneven shuffle")
    out = ctx.solver.reshape((place, group), (n,), "uneven shuffle")
    ctx.extent(1, Extent(group))
    return (x.dims[0], *out, *x.dims[2:])


@rule("pixel_shuffle", "pixel_unshuffle", zero="move", homogeneous=True)
def pixel_shuffle(ctx: Context, x: Value, factor: int) -> Dims:
    """Channels c × r × r against a picture r times as wide (or back)."""
    n, m = x.shape[-3], ctx.shape[-3]
    ctx.freeze(x.dims[-2:], "shuffled with places inside a pixel")
    spatial = ctx.fixed(ctx.shape[-2:], "spatial position")
    if n > m:
        outer, inner = ctx.solver.reshape((x.dims[-3],), (m, n // m), "uneven shuffle")
        ctx.freeze(inner, "places inside a pixel")
        return (*x.dims[:-3], outer, *spatial)
    inner = Fixed(m // n, "places inside a pixel")
    out = ctx.solver.reshape((x.dims[-3], inner), (m,), "uneven shuffle")
    return (*x.dims[:-3], *out, *spatial)
