"""Fourier transforms and complex numbers: the transformed dimensions are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Fixed
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import operator_name, rule

_TRANSFORMS = tuple(
    f"fft_{kind}fft{rank}" for kind in ("", "i", "r", "ir", "h", "ih") for rank in ("", "2", "n")
)


@rule(*_TRANSFORMS, "fft_fftshift", "fft_ifftshift", zero="move", uneven=True)
def fourier(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Every frequency depends on all positions; zero where the values are."""
    name = operator_name(ctx.node.target)
    shifted = name.endswith("shift")
    place = 0 if shifted else 1
    default: Any = None if shifted or name.endswith("n") else (-2, -1) if name.endswith("2") else -1
    dim = kwargs.get("dim", args[place] if len(args) > place else default)
    size = kwargs.get("s", args[0] if args and not shifted else None)
    if dim is None:
        # Without dimensions, as many of the last ones as sizes are given, else all.
        count = len(size) if isinstance(size, Sequence) else len(x.dims)
        dim = tuple(range(-count, 0))
    gone = {d % len(x.dims) for d in ([dim] if isinstance(dim, int) else dim)}
    ctx.freeze([x.dims[i] for i in gone], "a Fourier transform over units")
    return tuple(
        Fixed(n, "frequency") if i in gone else d
        for i, (d, n) in enumerate(zip(x.dims, ctx.shape, strict=True))
    )


@rule("real", "imag", "conj", "_conj", "conj_physical", "resolve_conj", "angle", zero="move")
def part(ctx: Context, x: Value) -> Dims:
    """A part of every number; that of zero is zero."""
    return x.dims


@rule("view_as_real", zero="move")
def view_as_real(ctx: Context, x: Value) -> Dims:
    """A new last dimension: real and imaginary part."""
    return (*x.dims, Fixed(2, "real and imaginary part"))


@rule("view_as_complex", zero="move")
def view_as_complex(ctx: Context, x: Value) -> Dims:
    """The last dimension, of size 2, becomes real and imaginary part."""
    ctx.freeze(x.dims[-1], "real and imaginary part")
    return x.dims[:-1]


@rule("stft", "istft", zero="move")
def short_time(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Frequencies of windows of a signal."""
    keep = min(len(x.dims) - 1, 1) if operator_name(ctx.node.target) == "stft" else 0
    ctx.freeze(x.dims[keep:], "a Fourier transform over units")
    for value in (*args, *kwargs.values()):
        if isinstance(value, Value):
            ctx.freeze(value.dims, "a window")
    return (*x.dims[:keep], *ctx.fixed(ctx.shape[keep:], "frequency"))
