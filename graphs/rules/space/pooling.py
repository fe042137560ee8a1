"""Pooling: spatial positions change, channels pass through."""

from __future__ import annotations

from typing import Any

from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import rule

_RANK = {"1d": 1, "2d": 2, "3d": 3}


@rule(
    *(f"{name}_pool{rank}" for name in ("max", "adaptive_max") for rank in _RANK),
    *(f"max_pool{rank}_with_indices" for rank in ("2d", "3d")),
    zero="move",
    homogeneous=True,
)
@rule(
    *(f"{name}_pool{rank}" for name in ("avg", "adaptive_avg") for rank in _RANK),
    *(f"_adaptive_avg_pool{n}d" for n in (2, 3)),
    *(f"{kind}_pad{rank}" for kind in ("reflection", "replication") for rank in _RANK),
    zero="move",
    homogeneous=True,
    turns="each",
)
def pool(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """All dimensions behind the channels are spatial and get new sizes."""

    def dims(shape: tuple[int, ...]) -> Dims:
        pairs = zip(x.dims, x.shape, shape, strict=True)
        spatial = len(shape) - _spatial(ctx)
        return tuple(
            d if i < spatial or n == m else ctx.fixed((m,), "spatial position")[0]
            for i, (d, n, m) in enumerate(pairs)
        )

    for dim in x.dims[len(x.dims) - _spatial(ctx) :]:
        ctx.freeze(dim, "pooled over")
    results = tuple(dims(s) for s in ctx.shapes)
    return results[0] if len(results) == 1 else results


@rule("fractional_max_pool2d", "fractional_max_pool3d", zero="first")
def fractional_pool(ctx: Context, x: Value, kernel: Any, size: Any, samples: Value) -> Any:
    """Windows at places that are drawn for every channel (batch, channels, spatial dimensions)."""
    ctx.unify(x.dims[-_spatial(ctx) - 1], samples.dims[1])
    return pool(ctx, x)


def _spatial(ctx: Context) -> int:
    name = str(ctx.node.target)
    return next(rank for key, rank in _RANK.items() if key in name)
