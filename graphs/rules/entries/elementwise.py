"""Operators that act position by position, with broadcasting."""

from __future__ import annotations

from typing import Any

from graphs.axes.dims import Dim, Fixed, atoms
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import rule

_UNARY = (
    "relu6 gelu silu sigmoid tanh hardtanh hardswish hardsigmoid elu celu "
    "selu mish softplus log_sigmoid hardshrink softshrink "
    "threshold exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal sign sgn signbit "
    "sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv sinc logit lgamma "
    "digamma special_expit special_log_ndtr special_ndtr deg2rad rad2deg floor ceil round trunc "
    "fix frac clamp clip clamp_min clamp_max feature_alpha_dropout "
    "rrelu isnan isinf isfinite logical_not bitwise_not nan_to_num positive zero "
    "_assert_tensor_metadata cpu cuda"
)
_ADDITIVE = (
    "max.other min.other rsub maximum minimum fmax fmin eq ne lt le gt ge isclose "
    "logical_or logical_xor or xor bitwise_or bitwise_xor lshift rshift lerp addcmul addcdiv atan2 "
    " hypot copysign heaviside logaddexp xlogy copy fill remainder fmod floor_divide "
    "threshold_backward polar complex"
)


def broadcast(ctx: Context, values: list[Value]) -> Dims:
    """Dimensions of a broadcast result: operands aligned at the right, size 1 stretches."""
    out: list[Dim] = []
    for i in range(1, len(ctx.shape) + 1):
        n = ctx.shape[-i]
        here = [v.dims[-i] for v in values if len(v.dims) >= i and v.shape[-i] == n]
        dim: Dim = here[0] if here else Fixed(n)
        for other in here[1:]:
            merged = ctx.unify(dim, other)
            dim = merged if atoms(merged) else ctx.solver.resolve(dim)
        # Of a fixed and a (now frozen) axis, the axis is the one that carries units.
        dim = next((d for d in map(ctx.solver.resolve, here) if atoms(d)), dim)
        out.insert(0, dim)
    return tuple(out)


def _operands(*args: Any) -> list[Value]:
    return [a for a in args if isinstance(a, Value)]


def _still(*args: Any) -> bool:
    """Whether only parameters and constants meet: what they are is settled where they are used."""
    return all(value.still for value in _operands(*args))


@rule(*_UNARY.split())
@rule("relu", "leaky_relu", "abs", homogeneous=True)
@rule("neg", homogeneous=True, shifts=True, turns="each")
@rule(
    *("to", "_to_copy", "type_as", "clone", "detach", "alias", "contiguous"),
    *("lift_fresh", "lift_fresh_copy"),
    entries="same",
    homogeneous=True,
    numbers="kept",
    turns="each",
)
@rule("square", turns="square")
@rule("dropout", homogeneous=True, training=2, turns="each")
@rule("alpha_dropout", "feature_dropout", training=2, turns="each")
def unary(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Entry by entry; the dimensions pass through."""
    return broadcast(ctx, [x, *_operands(*args)]) if ctx.shapes else ()


@rule("native_dropout", zero="move")
def native_dropout(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Entry by entry, with the mask of what stays."""
    return x.dims, x.dims


@rule("pow", turns="square")
def power(ctx: Context, x: Any, exponent: Any, **kwargs: Any) -> Dims:
    """Entry by entry."""
    return broadcast(ctx, _operands(x, exponent))


@rule(*_ADDITIVE.split())
@rule("add", "sub", homogeneous=True, shifts=True, turns="sum")
def additive(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Entry by entry over several operands."""
    return broadcast(ctx, _operands(*args, *kwargs.values()))


@rule("logical_and", "and", "bitwise_and", zero="product")
def both(ctx: Context, *args: Any) -> Dims:
    """Entry by entry; false where either operand is."""
    return broadcast(ctx, _operands(*args))


@rule("where", "masked_fill", zero="choice", turns="choice")
def choose(ctx: Context, *args: Any, **kwargs: Any) -> Dims:
    """Entry by entry one of two values; zero where both are."""
    return broadcast(ctx, _operands(*args, *kwargs.values()))


@rule("mul", "multiply", zero="product", shifts=True, turns="product")
def multiply(ctx: Context, a: Any, b: Any, **kwargs: Any) -> Dims:
    """Entry by entry; zero where either operand is. A multiplied parameter is a scale."""
    if not _still(a, b):
        for value in _operands(a, b):
            ctx.role(value, "scale")
    return broadcast(ctx, _operands(a, b))


@rule("div", "true_divide", "divide", zero="first", shifts=True, turns="quotient")
def divide(ctx: Context, a: Any, b: Any, **kwargs: Any) -> Dims:
    """Entry by entry; zero where the numerator is. A divisor is like a variance, never zero."""
    if not _still(a, b):
        for value in _operands(b):
            ctx.role(value, "running_var")
    return broadcast(ctx, _operands(a, b))


@rule("_weight_norm_interface", "_weight_norm", zero="product", statistic=True)
def weight_norm(ctx: Context, v: Value, g: Value, dim: int = 0) -> Any:
    """Salimans & Kingma 2016: w = g v / |v|, the norm over all dimensions but `dim`.

    A unit is dead when its g is zero; v has no part in it, for a direction of zeros is none.
    """
    ctx.role(v, "weight", consumed=range(len(v.dims)))
    ctx.role(g, "scale")
    dims = list(v.dims)
    for i, d in enumerate(v.dims):
        if dim != -1 and i == dim % len(v.dims):
            dims[i] = ctx.unify(d, g.dims[i])
        else:
            ctx.exactness(d, "norm-changed")
    return tuple(dims) if len(ctx.shapes) == 1 else (tuple(dims), g.dims)


@rule("prelu", zero="product")
def prelu(ctx: Context, x: Value, weight: Value) -> Dims:
    """X where positive, weight · x elsewhere; one weight for each channel, or one in all."""
    if weight.shape and weight.shape[0] > 1:
        ctx.unify(x.dims[1], weight.dims[0])
    ctx.role(weight, "scale")
    return x.dims


@rule("glu", zero="product")
def glu(ctx: Context, x: Value, dim: int = -1) -> Dims:
    """First half times the sigmoid of the second: the halves share their units."""
    parts = ctx.solver.split(x.dims[dim], x.shape[dim] // 2)
    if parts is None:
        ctx.opaque([x], "gated halves do not divide")
        return ctx.fixed(ctx.shape, "gated halves do not divide")
    dims = list(x.dims)
    dims[dim] = ctx.unify(*parts)
    return tuple(dims)
