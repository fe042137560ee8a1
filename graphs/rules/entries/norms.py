"""Normalisations. Each states the class of exactness of the axes it takes statistics over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Atom, Prod, product
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.registry import rule


@rule("batch_norm", zero="affine-norm", training=5, turns="batch norm")
@rule("native_batch_norm", "_native_batch_norm_legit_no_training", zero="affine-norm")
def batch_norm(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None = None,
    variance: Value | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Channel by channel: γ (x − mean) / √(variance + ε) + β."""
    dim = x.dims[1]
    for value, role in (
        (weight, "scale"),
        (bias, "bias"),
        (mean, "running_mean"),
        (variance, "running_var"),
    ):
        if value is not None:
            dim = ctx.unify(dim, value.dims[0])
            ctx.role(value, role)
    if mean is None:
        # Statistics of this very input: of each example, or of a weight that is standardised.
        for positions in x.dims[2:]:
            ctx.exactness(positions, "norm-changed")
    dims = (x.dims[0], ctx.solver.resolve(dim), *x.dims[2:])
    if len(ctx.shapes) == 1:
        return dims
    return (dims, *(ctx.fixed(s, "batch statistics") for s in ctx.shapes[1:]))


@rule("instance_norm", zero="unit-norm", statistic=True)
def instance_norm(
    ctx: Context, x: Value, weight: Value | None, bias: Value | None, *args: Any, **kwargs: Any
) -> Dims:
    """Batch norm with the statistics of one example."""
    result: Dims = batch_norm(ctx, x, weight, bias, *args)
    return result


@rule("layer_norm", "native_layer_norm", zero="affine-norm", statistic=True, turns="norm")
def layer_norm(
    ctx: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Mean and variance over the trailing dimensions, which therefore change with their units."""
    for dim in x.dims[-len(normalized_shape) :]:
        ctx.exactness(dim, "norm-changed")
    return _trailing_norm(ctx, x, normalized_shape, weight, bias)


@rule("rms_norm", "_fused_rms_norm", zero="unit-norm", statistic=True, turns="norm")
def rms_norm(
    ctx: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """X / √(mean x² + ε) · γ: exact up to a rescale of γ and ε by the share of units that stays."""
    dims = _trailing_norm(ctx, x, normalized_shape, weight, None)
    ctx.facts.mean_squares.append((ctx.node, product(x.dims[-len(normalized_shape) :])))
    return dims


def _trailing_norm(
    ctx: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
) -> Any:
    n = len(normalized_shape)
    trailing = list(x.dims[-n:])
    for value, role in ((weight, "scale"), (bias, "bias")):
        if value is not None:
            trailing = [ctx.unify(a, b) for a, b in zip(trailing, value.dims, strict=True)]
            ctx.role(value, role)
    ctx.extent(1, [Extent(d) for d in trailing])
    dims = (*x.dims[:-n], *trailing)
    if len(ctx.shapes) == 1:
        return dims
    return (dims, *(ctx.fixed(s, "statistics") for s in ctx.shapes[1:]))


@rule("group_norm", zero="affine-norm", statistic=True)
def group_norm(
    ctx: Context,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    *args: Any,
    **kwargs: Any,
) -> Dims:
    """Statistics over the channels of each group: channels = group × channels of a group."""
    dim = x.dims[1]
    for value, role in ((weight, "scale"), (bias, "bias")):
        if value is not None:
            dim = ctx.unify(dim, value.dims[0])
            ctx.role(value, role)
    parts = ctx.solver.factor(dim, x.shape[1] // num_groups)
    if parts is None:
        ctx.freeze(dim, "normalisation groups cut through concatenated channels")
    else:
        group, inside = parts
        if num_groups > 1:
            ctx.solver.set_kind(group, "group")
        ctx.exactness(inside, "norm-changed")
        ctx.extent(1, Extent(group))
    dim = ctx.solver.resolve(dim)
    if isinstance(dim, Prod) and any(isinstance(f, Atom) for f in dim.factors[1:]):
        ctx.solver.set_kind(dim.factors[-1], "channel")
    return (x.dims[0], dim, *x.dims[2:])
