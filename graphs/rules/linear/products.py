"""Products of two tensors beyond matrices: bilinear maps, outer products, similarities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.rules import labels
from graphs.rules.context import Context, Dims, Value
from graphs.rules.entries.elementwise import broadcast
from graphs.rules.registry import rule


@rule("bilinear", zero="affine", ends=True, turns="contract", labels=labels.bilinear)
def bilinear(ctx: Context, a: Value, b: Value, weight: Value, bias: Value | None = None) -> Dims:
    """y_k = aᵀ W_k b + bias_k, W (out, in of a, in of b)."""
    ctx.role(weight, "weight", consumed=(1, 2))
    ctx.role(bias, "bias")
    first = ctx.unify(a.dims[-1], weight.dims[1])
    second = ctx.unify(b.dims[-1], weight.dims[2])
    out = weight.dims[0]
    ctx.solver.set_kind(out, "feature")
    if bias is not None:
        out = ctx.unify(out, bias.dims[0])
    lead = tuple(ctx.unify(d, e) for d, e in zip(a.dims[:-1], b.dims[:-1], strict=True))
    ctx.cost(*lead, out, first, second)
    return (*lead, out)


@rule("tensordot", zero="product", ends=True)
def tensordot(
    ctx: Context, a: Value, b: Value, dims_a: Sequence[int], dims_b: Sequence[int], **kwargs: Any
) -> Dims:
    """Sum over pairs of dimensions."""
    gone_a = [d % len(a.dims) for d in dims_a]
    gone_b = [d % len(b.dims) for d in dims_b]
    ctx.role(a, "weight", consumed=gone_a)
    ctx.role(b, "weight", consumed=gone_b)
    summed = [ctx.unify(a.dims[i], b.dims[j]) for i, j in zip(gone_a, gone_b, strict=True)]
    left = tuple(d for i, d in enumerate(a.dims) if i not in gone_a)
    right = tuple(d for i, d in enumerate(b.dims) if i not in gone_b)
    ctx.cost(*left, *right, *summed)
    return (*left, *right)


@rule("vdot", zero="product", ends=True)
def vdot(ctx: Context, a: Value, b: Value) -> Dims:
    """Sum of the products of two vectors' entries."""
    ctx.role(a, "weight", consumed=(0,))
    ctx.role(b, "weight", consumed=(0,))
    ctx.cost(ctx.unify(a.dims[0], b.dims[0]))
    return ()


@rule("outer", "ger", zero="product")
def outer(ctx: Context, a: Value, b: Value) -> Dims:
    """All products of two vectors' entries."""
    return (*a.dims, *b.dims)


@rule("cosine_similarity", zero="move", ends=True)
def similarity(ctx: Context, a: Value, b: Value, *args: Any, **kwargs: Any) -> Dims:
    """The cosine of two vectors, which units that are zero in both leave as it is."""
    return _compared(ctx, a, b, args[0] if args else kwargs.get("dim", 1))


@rule("pairwise_distance", zero="never", ends=True)
def distance(ctx: Context, a: Value, b: Value, *args: Any, **kwargs: Any) -> Dims:
    """|a − b + ε|: a pair of zeros still counts ε, and two vectors of zeros are ε apart."""
    ctx.exactness(a.dims[-1], "norm-changed")
    return _compared(ctx, a, b, -1)


def _compared(ctx: Context, a: Value, b: Value, dim: int) -> Dims:
    """Dimensions of a number for two vectors along `dim`."""
    both = Context(ctx.node, ctx.solver, ctx.facts, ctx.module, (_stretched(a, b),))
    dims = broadcast(both, [a, b])
    dim %= len(dims)
    keepdim = len(ctx.shape) == len(dims)
    kept = ctx.fixed((1,), "similarity") if keepdim else ()
    return (*dims[:dim], *kept, *dims[dim + 1 :])


def _stretched(a: Value, b: Value) -> tuple[int, ...]:
    rank = max(len(a.shape), len(b.shape))
    pairs = zip(
        (1,) * (rank - len(a.shape)) + a.shape, (1,) * (rank - len(b.shape)) + b.shape, strict=True
    )
    return tuple(max(n, m) for n, m in pairs)


@rule("cdist", "_cdist_forward", zero="never", ends=True)
def cdist(ctx: Context, a: Value, b: Value, p: float = 2.0, *args: Any) -> Dims:
    """Distances between all rows of two matrices: units that are zero in both add nothing.

    A row of zeros is a point like any other.
    """
    feature = ctx.unify(a.dims[-1], b.dims[-1])
    if p <= 0:
        ctx.freeze(feature, f"a distance of order {p}")
    lead = Context(ctx.node, ctx.solver, ctx.facts, ctx.module, (ctx.shape[:-2],))
    heads = [Value(v.dims[:-2], v.shape[:-2]) for v in (a, b)]
    return (*broadcast(lead, heads), a.dims[-2], b.dims[-2])
