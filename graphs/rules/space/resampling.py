"""Resampling and sliding windows: positions change, channels pass through."""

from __future__ import annotations

from typing import Any

from graphs.axes.dims import Fixed
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import rule
from graphs.rules.space.pooling import pool

_MODES = (
    *(f"upsample_nearest{rank}" for rank in ("1d", "2d", "3d")),
    *(f"_upsample_nearest_exact{rank}" for rank in ("1d", "2d", "3d")),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)


@rule(*_MODES, zero="move", homogeneous=True, turns="each")
def upsample(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Interpolation, channel by channel."""
    return pool(ctx, x)


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", zero="first")
def grid_sample(ctx: Context, x: Value, grid: Value, *args: Any) -> Dims:
    """Values of x (batch, channels, *spatial) at the positions of a grid (batch, *spatial, 2|3)."""
    ctx.freeze(x.dims[2:], "sampled positions")
    ctx.freeze(grid.dims[1:], "coordinates of samples")
    return (x.dims[0], x.dims[1], *ctx.fixed(ctx.shape[2:], "sampled position"))


@rule("affine_grid_generator", zero="never")
def affine_grid(ctx: Context, theta: Value, *args: Any) -> Dims:
    """Coordinates made by a small matrix."""
    ctx.freeze(theta.dims[1:], "coordinates of samples")
    return (theta.dims[0], *ctx.fixed(ctx.shape[1:], "coordinates of samples"))


@rule("im2col", zero="move")
def im2col(ctx: Context, x: Value, *args: Any) -> Dims:
    """`F.unfold`: channel × place in a window, against the number of windows."""
    channels = x.shape[-3]
    window = Fixed(ctx.shape[-2] // channels, "place in a window")
    ctx.freeze(x.dims[-2:], "unfolded positions")
    out = ctx.solver.reshape((x.dims[-3], window), (ctx.shape[-2],), "uneven windows")
    return (*x.dims[:-3], *out, Fixed(ctx.shape[-1], "window"))


@rule("col2im", zero="move", uneven=True)
def col2im(ctx: Context, x: Value, size: Any, kernel: Any, *args: Any) -> Dims:
    """`F.fold`: windows summed back into an image."""
    places = 1
    for k in kernel:
        places *= k
    ctx.freeze(x.dims[-1], "windows are told apart by their place")
    parts = ctx.solver.factor(x.dims[-2], places)
    if parts is None:
        ctx.freeze(x.dims[-2], "windows cut through units")
        return ctx.fixed(ctx.shape, "folded windows")
    ctx.freeze(parts[1], "place in a window")
    return (*x.dims[:-2], parts[0], *ctx.fixed(ctx.shape[-2:], "spatial position"))


@rule("unfold", zero="move")
def unfold(ctx: Context, x: Value, dim: int, size: int, step: int) -> Dims:
    """`Tensor.unfold`: overlapping windows of one dimension become a dimension at the end."""
    if not x.dims:
        return ctx.fixed(ctx.shape, "window")
    dim %= len(x.dims)
    ctx.freeze(x.dims[dim], "sliding windows over units")
    dims = list(x.dims)
    dims[dim] = Fixed(ctx.shape[dim], "window")
    return (*dims, Fixed(size, "place in a window"))


@rule("max_unpool2d", "max_unpool3d", zero="choice")
def max_unpool(ctx: Context, x: Value, places: Value, *args: Any) -> Dims:
    """The inverse of max pooling, by the places of the maxima."""
    rank = int(str(ctx.node.target).split("max_unpool")[1][0])
    ctx.freeze(x.dims[-rank:], "pooled over")
    for d, p in zip(x.dims[:-rank], places.dims[:-rank], strict=True):
        ctx.unify(d, p)
    return (*x.dims[:-rank], *ctx.fixed(ctx.shape[-rank:], "spatial position"))
