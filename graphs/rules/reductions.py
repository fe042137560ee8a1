"""Operators that reduce a dimension, or whose result depends on all positions along one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from graphs.dims import Fixed
from graphs.rules.registry import Context, Dims, Value, operator_name, rule
from graphs.rules.routing import feeds_top_k, marks_groups


def _reduced(x: Value, dim: Any) -> tuple[int, ...]:
    rank = len(x.dims)
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    return tuple(d % rank for d in (dim if isinstance(dim, Sequence) else (dim,)))


def _remaining(x: Value, gone: tuple[int, ...], keepdim: bool) -> Dims:
    if keepdim:
        return tuple(Fixed(1) if i in gone else d for i, d in enumerate(x.dims))
    return tuple(d for i, d in enumerate(x.dims) if i not in gone)


def _is_square(node: fx.Node) -> bool:
    """Whether a node squares its operand, however that is spelled."""
    name, args = operator_name(node.target), node.args
    if name == "mul":
        return args[0] is args[1]
    return name == "square" or (name == "pow" and args[1] == 2)


@rule("mean", "adaptive_avg_pool.mean", zero="move")
def mean(ctx: Context, x: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Dims:
    """A mean of squares over units is a root-mean-square norm's: exact up to a rescale."""
    gone = _reduced(x, dim)
    squared = x.node is not None and _is_square(x.node)
    for i in gone:
        if squared:
            ctx.facts.mean_squares.append((ctx.node, x.dims[i]))
        else:
            ctx.exactness(x.dims[i], "norm-changed")
    return _remaining(x, gone, keepdim)


@rule("sum", zero="move")
def total(ctx: Context, x: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Dims:
    """Zero units add nothing."""
    return _remaining(x, _reduced(x, dim), keepdim)


@rule("var", "std", zero="move")
def variance(ctx: Context, x: Value, dim: Any = None, *args: Any, **kwargs: Any) -> Dims:
    """Changes with the units it is taken over."""
    gone = _reduced(x, None if isinstance(dim, bool) else dim)
    for i in gone:
        ctx.exactness(x.dims[i], "norm-changed")
    return _remaining(x, gone, bool(kwargs.get("keepdim", len(ctx.shape) == len(x.dims))))


@rule("amax", "amin", "logsumexp", "linalg_vector_norm", "norm", "prod", "any", "all", zero="move")
def order_statistic(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Reductions that a zero unit may change: their axes are frozen."""
    name = operator_name(ctx.node.target)
    position = 1 if name in ("norm", "linalg_vector_norm") else 0
    dim = kwargs.get("dim", args[position] if len(args) > position else None)
    if isinstance(dim, bool):
        dim = None
    gone = _reduced(x, dim)
    ctx.freeze([x.dims[i] for i in gone], f"{name} over units")
    return _remaining(x, gone, len(ctx.shape) == len(x.dims))


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", zero="never")
def softmax(ctx: Context, x: Value, dim: Any = -1, *args: Any, **kwargs: Any) -> Dims:
    """Every position along `dim` depends on the others; a router may do with fewer of them."""
    if feeds_top_k(ctx.node):
        for i in _reduced(x, dim):
            ctx.exactness(x.dims[i], "data-dependent")
        return x.dims
    return along(ctx, x, dim)


@rule("cumsum", "flip", "roll", zero="move")
def along(ctx: Context, x: Value, dim: Any = -1, *args: Any, **kwargs: Any) -> Dims:
    """Same shape, but every position along `dim` depends on the others or on its place."""
    name = operator_name(ctx.node.target)
    if name == "roll":
        dim = args[0] if args else kwargs.get("dims", ())
    if name == "cumsum" and marks_groups(ctx.node):
        return x.dims
    for i in _reduced(x, dim):
        ctx.freeze(x.dims[i], f"{name} over units")
    return x.dims


@rule("max", "min", "argmax", "argmin", "sort", zero="move")
def ordering(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Values and places of the largest: their axis is frozen."""
    name = operator_name(ctx.node.target)
    dim = kwargs.get("dim", args[0] if args else -1 if name == "sort" else None)
    gone = _reduced(x, None if isinstance(dim, bool) else dim)
    ctx.freeze([x.dims[i] for i in gone], f"{name} over units")
    results = []
    for shape in ctx.shapes:
        if len(shape) == len(x.dims):
            results.append(tuple(Fixed(n) if i in gone else x.dims[i] for i, n in enumerate(shape)))
        else:
            results.append(_remaining(x, gone, False))
    return results[0] if len(results) == 1 else tuple(results)
