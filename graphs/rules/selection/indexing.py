"""Operators that look positions up by number: the dimension they index is left alone.

All other dimensions pass through, so that a gather along tokens leaves the channels free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Dim, Fixed, atoms
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import operator_name, rule
from graphs.rules.selection.routing import looked_up

_WHY = "positions are looked up by number"


def _pointwise(ctx: Context, x: Value, dim: int, places: Value) -> list[Dim]:
    """Dimensions of `places`, which agree with those of `x` everywhere but along `dim`."""
    looked_up(ctx, x.dims[dim], places, _WHY)
    dims: list[Dim] = []
    for i, (d, p) in enumerate(zip(x.dims, places.dims, strict=True)):
        n, m = x.shape[i], places.shape[i]
        if i == dim:
            ctx.freeze(p, _WHY)
            dims.append(Fixed(m, "places"))
        elif n == m:
            dims.append(_either(ctx, d, p))
        else:
            # The first m of n positions, or one position that stretches.
            if m != 1 or n < m:
                ctx.freeze([d, p], "only the first positions are looked up")
            dims.append(d if n > m else p)
    return dims


def _either(ctx: Context, a: Dim, b: Dim) -> Dim:
    """The same dimension; of a fixed and a (now frozen) axis, the axis."""
    merged = ctx.unify(a, b)
    return next((d for d in map(ctx.solver.resolve, (a, b)) if atoms(d)), merged)


@rule("gather", zero="first", ends=True, numbers="read", turns="each")
def gather(ctx: Context, x: Value, dim: int, places: Value, **kwargs: Any) -> Dims:
    """out[i][j] = x[places[i][j]][j] for dim = 0."""
    if not x.dims:
        return places.dims
    dims = _pointwise(ctx, x, dim % len(x.dims), places)
    return tuple(
        d if ctx.solver.size(d) == n else Fixed(n) for d, n in zip(dims, ctx.shape, strict=True)
    )


@rule("take_along_dim", zero="first", ends=True)
def take_along_dim(ctx: Context, x: Value, places: Value, dim: int | None = None) -> Dims:
    """Gather, with broadcasting."""
    if dim is None:
        ctx.opaque([x, places], _WHY)
        return ctx.fixed(ctx.shape, "places")
    return tuple(_pointwise(ctx, x, dim % len(x.dims), places))


@rule(
    "index_select",
    zero="move",
    ends=True,
    picks="number",
    homogeneous=True,
    numbers="read",
    turns="each",
)
def index_select(ctx: Context, x: Value, dim: int, places: Value) -> Dims:
    """Positions of one dimension by number."""
    dim %= max(len(x.dims), 1)
    looked_up(ctx, x.dims[dim], places, _WHY)
    return (*x.dims[:dim], *places.dims, *x.dims[dim + 1 :])


@rule("index_put", zero="choice", turns="join")
def index_put(
    ctx: Context, x: Value, indices: Sequence[Value | None], values: Value, *args: Any
) -> Dims:
    """X with x[indices] replaced or added to."""
    for i, place in enumerate(indices):
        if place is not None:
            ctx.freeze([x.dims[i], *place.dims], _WHY)
    # Dimensions behind the last index line up with the last ones of the values.
    last = max(i for i, place in enumerate(indices) if place is not None)
    free = [d for i, d in enumerate(x.dims) if i > last]
    for d, v, n in zip(reversed(free), reversed(values.dims), reversed(values.shape), strict=False):
        if n == ctx.solver.size(d):
            _either(ctx, d, v)
    ctx.freeze(values.dims[: max(len(values.dims) - len(free), 0)], _WHY)
    ctx.freeze([d for i, d in enumerate(x.dims) if i < last], _WHY)
    return x.dims


@rule("scatter", "scatter_reduce", zero="choice")
@rule("scatter_add", zero="choice", turns="join")
def scatter(
    ctx: Context, x: Value, dim: int, places: Value, source: Any, *args: Any, **kwargs: Any
) -> Dims:
    """X with values put at places along `dim`."""
    dim %= len(x.dims)
    dims = _pointwise(ctx, x, dim, places)
    if isinstance(source, Value):
        ctx.freeze(source.dims[dim], _WHY)
        for i, (d, s) in enumerate(zip(dims, source.dims, strict=True)):
            if i != dim and source.shape[i] == ctx.solver.size(d):
                _either(ctx, d, s)
            elif i != dim:
                ctx.freeze([d, s], "only the first positions are written")
    return x.dims


@rule("index_reduce", "index_fill", zero="choice")
@rule("index_add", "index_copy", zero="choice", turns="join")
def index_add(
    ctx: Context, x: Value, dim: int, places: Value, source: Any, *args: Any, **kwargs: Any
) -> Dims:
    """X with whole slices along `dim` replaced or added to."""
    dim %= len(x.dims)
    ctx.freeze([x.dims[dim], *places.dims], _WHY)
    if isinstance(source, Value) and source.dims:
        for i, (d, s) in enumerate(zip(x.dims, source.dims, strict=True)):
            if i == dim:
                ctx.freeze(s, _WHY)
            else:
                _either(ctx, d, s)
    return x.dims


@rule("slice_scatter", "select_scatter", zero="choice", turns="join")
def slice_scatter(ctx: Context, x: Value, source: Value, dim: int = 0, *args: Any) -> Dims:
    """X with a slice or one position along `dim` replaced."""
    dim %= len(x.dims)
    ctx.freeze(x.dims[dim], _WHY)
    rest = [d for i, d in enumerate(x.dims) if i != dim]
    other = list(source.dims)
    if operator_name(ctx.node.target) == "slice_scatter":
        ctx.freeze(other.pop(dim), _WHY)
    for d, s in zip(rest, other, strict=True):
        _either(ctx, d, s)
    return x.dims


@rule("embedding_bag", "_embedding_bag", zero="affine", ends=True)
def embedding_bag(ctx: Context, weight: Value, places: Value, *args: Any, **kwargs: Any) -> Any:
    """Sums, means or maxima of rows of W (vocabulary, features)."""
    ctx.role(weight, "embedding", consumed=(0,))
    ctx.solver.set_kind(weight.dims[0], "vocabulary")
    ctx.solver.set_kind(weight.dims[1], "feature")
    ctx.solver.freeze(weight.dims[0], "vocabulary entries are looked up by index")
    for value in args:
        if isinstance(value, Value):
            ctx.freeze(value.dims, _WHY)
    bags, *rest = ctx.shapes
    return ((Fixed(bags[0], "bag"), weight.dims[1]), *(ctx.fixed(s, "bag") for s in rest))


@rule("bucketize", "searchsorted", zero="never", ends=True)
def bucketize(ctx: Context, first: Any, second: Any, *args: Any, **kwargs: Any) -> Dims:
    """The number of the interval that a value falls into."""
    name = operator_name(ctx.node.target)
    x, bounds = (first, second) if name == "bucketize" else (second, first)
    if isinstance(bounds, Value):
        ctx.freeze(bounds.dims, "ordered boundaries")
    return x.dims if isinstance(x, Value) else ()
