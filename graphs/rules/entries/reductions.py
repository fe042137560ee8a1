"""Operators that reduce a dimension, or whose result depends on all positions along one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from graphs.axes.dims import Fixed
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import operator_name, rule
from graphs.rules.selection.routing import feeds_top_k, marks_groups


def _argument(ctx: Context, name: str) -> Any:
    """What the call gives for an argument of its schema, or the default; None without such one."""
    for i, argument in enumerate(ctx.node.target._schema.arguments):
        if argument.name == name:
            if len(ctx.node.args) > i:
                return ctx.node.args[i]
            return ctx.node.kwargs.get(name, argument.default_value)
    return None


def _reduced(ctx: Context, x: Value, name: str = "dim") -> tuple[int, ...]:
    """The dimensions that the argument `dim` (or `name`) counts; all of them without one."""
    rank, dim = len(x.dims), _argument(ctx, name)
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    return tuple(d % rank for d in (dim if isinstance(dim, Sequence) else (dim,)) if rank)


def _remaining(ctx: Context, x: Value, gone: tuple[int, ...]) -> Dims:
    """Dimensions of the result of a reduction."""
    if len(ctx.shape) == len(x.dims):
        return tuple(Fixed(1) if i in gone else d for i, d in enumerate(x.dims))
    return tuple(d for i, d in enumerate(x.dims) if i not in gone)


def _is_square(node: fx.Node) -> bool:
    """Whether a node squares its operand, however that is spelled."""
    name, args = operator_name(node.target), node.args
    if name == "mul":
        return args[0] is args[1]
    return name == "square" or (name == "pow" and args[1] == 2)


@rule("mean", zero="move", ends=True, homogeneous=True, statistic=True, turns="reduce")
@rule("nanmean", zero="move", ends=True, homogeneous=True, statistic=True)
def mean(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """A mean of squares over units is a root-mean-square norm's: exact up to a rescale."""
    gone = _reduced(ctx, x)
    squared = x.node is not None and _is_square(x.node)
    for i in gone:
        if squared:
            ctx.facts.mean_squares.append((ctx.node, x.dims[i]))
        else:
            ctx.exactness(x.dims[i], "norm-changed")
    return _remaining(ctx, x, gone)


@rule("sum", zero="move", ends=True, homogeneous=True, turns="reduce")
@rule("nansum", zero="move", ends=True, homogeneous=True)
@rule("any", "count_nonzero", zero="move", ends=True)
def total(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Zero units add nothing."""
    return _remaining(ctx, x, _reduced(ctx, x))


@rule(
    *("var", "std", "var_mean", "std_mean"),
    zero="move",
    ends=True,
    statistic=True,
    turns="variance",
)
def variance(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Changes with the units it is taken over."""
    gone = _reduced(ctx, x)
    for i in gone:
        ctx.exactness(x.dims[i], "norm-changed")
    dims = _remaining(ctx, x, gone)
    return dims if len(ctx.shapes) == 1 else (dims, dims)


@rule("linalg_vector_norm", "norm", zero="move", ends=True, turns="length")
def vector_norm(ctx: Context, x: Value, order: Any = 2, *args: Any, **kwargs: Any) -> Dims:
    """(Σ |x|^p)^(1/p): zero units add nothing for p ≥ 0, and none is the largest for p = ∞."""
    gone = _reduced(ctx, x)
    if order is not None and float(order) < 0:
        ctx.freeze([x.dims[i] for i in gone], "a norm of negative order over units")
    return _remaining(ctx, x, gone)


@rule("amax", "amin", zero="move", ends=True)
def extremum(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """The largest: a dead unit is zero and may be it."""
    gone = _reduced(ctx, x)
    for i in gone:
        ctx.exactness(x.dims[i], "data-dependent")
    return _remaining(ctx, x, gone)


@rule("prod", "all", zero="move", ends=True)
def order_statistic(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Reductions that a zero unit may change: their axes are frozen."""
    gone = _reduced(ctx, x)
    ctx.freeze([x.dims[i] for i in gone], f"{operator_name(ctx.node.target)} over units")
    return _remaining(ctx, x, gone)


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", zero="never")
def softmax(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Every position along `dim` depends on the others; a router may do with fewer of them."""
    if feeds_top_k(ctx.node):
        for i in _reduced(ctx, x):
            ctx.exactness(x.dims[i], "data-dependent")
        return x.dims
    return along(ctx, x)


@rule("logcumsumexp", zero="never", uneven=True)
def log_sum(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Every position along `dim` depends on those before it; exp(0) is not zero."""
    return along(ctx, x)


@rule("cumsum", "cumprod", zero="move", uneven=True)
@rule("flip", "roll", zero="move")
def along(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Same shape, but every position along `dim` depends on the others or on its place."""
    name = operator_name(ctx.node.target)
    if name == "cumsum" and marks_groups(ctx.node):
        return x.dims
    for i in _reduced(ctx, x, "dims" if name in ("flip", "roll") else "dim"):
        ctx.freeze(x.dims[i], f"{name} over units")
    return x.dims


@rule("fliplr", "flipud", zero="move")
def flip_one(ctx: Context, x: Value) -> Dims:
    """Reversed along the second, or the first dimension."""
    ctx.freeze(x.dims[int("fliplr" in str(ctx.node.target))], "flip over units")
    return x.dims


@rule("max", "min", zero="move", ends=True)
def largest(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """The largest, and its place where that is asked for."""
    if len(ctx.shapes) > 1 and any(user.args[1] == 1 and user.users for user in ctx.node.users):
        return ordering(ctx, x)
    dims = extremum(ctx, x)
    return dims if len(ctx.shapes) == 1 else (dims, dims)


@rule("sort", zero="move", ends=True, numbers="kept or read")
@rule(
    *("median", "nanmedian", "mode", "kthvalue", "cummax", "cummin", "quantile"),
    zero="move",
    ends=True,
)
def ordering(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Values and places by rank: their axis is frozen."""
    gone = _reduced(ctx, x)
    why = f"{operator_name(ctx.node.target)} over units"
    ctx.freeze([x.dims[i] for i in gone], why)

    def dims(shape: tuple[int, ...]) -> Dims:
        if len(shape) != len(x.dims):
            return tuple(d for i, d in enumerate(x.dims) if i not in gone)
        return tuple(Fixed(n, why) if i in gone else x.dims[i] for i, n in enumerate(shape))

    results = tuple(dims(shape) for shape in ctx.shapes)
    return results if isinstance(ctx.node.meta["val"], tuple | list) else results[0]


@rule("argsort", zero="never", ends=True, uneven=True, numbers="read")
@rule("argmax", "argmin", zero="never", ends=True)
def places(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Places by rank: their axis is frozen."""
    return ordering(ctx, x)


@rule("logsumexp", zero="never", ends=True)
def log_sum_exp(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A dead unit still counts e⁰."""
    return order_statistic(ctx, x)
