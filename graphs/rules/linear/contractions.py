"""Operators that sum over a dimension: linear maps, convolutions, matrices, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphs.axes.dims import Dim, Fixed, atoms, product
from graphs.rules import labels
from graphs.rules.context import Context, Dims, Extent, Pinned, Value
from graphs.rules.entries.elementwise import broadcast
from graphs.rules.registry import rule


@rule("linear", zero="affine", ends=True, turns="contract", labels=labels.linear)
def linear(ctx: Context, x: Value, weight: Value, bias: Value | None = None) -> Dims:
    """Y = x Wᵀ + b, W (out, in)."""
    ctx.role(weight, "weight", consumed=(1,) if len(weight.dims) == 2 else (0,))
    ctx.role(bias, "bias")
    inside = ctx.unify(x.dims[-1], weight.dims[-1])
    if len(weight.dims) == 1:
        return x.dims[:-1]
    out = weight.dims[0]
    ctx.solver.set_kind(out, "feature")
    if bias is not None:
        out = ctx.unify(out, bias.dims[0])
    ctx.cost(*x.dims[:-1], out, inside)
    return (*x.dims[:-1], out)


@rule("embedding", zero="affine", ends=True, turns="contract", labels=labels.embedding)
def embedding(ctx: Context, weight: Value, index: Value, *args: Any, **kwargs: Any) -> Dims:
    """Rows of W (vocabulary, features) by index."""
    ctx.role(weight, "embedding", consumed=(0,))
    ctx.solver.set_kind(weight.dims[0], "vocabulary")
    ctx.solver.set_kind(weight.dims[1], "feature")
    ctx.solver.freeze(weight.dims[0], "vocabulary entries are looked up by index")
    return (*index.dims, weight.dims[1])


@rule(
    *("conv1d", "conv2d", "conv3d"),
    zero="affine",
    ends=True,
    convolves="forward",
    turns="contract",
    labels=labels.convolution,
)
def convolution(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Dims:
    """W (out, in / groups, *kernel); with groups both sides are group × channels of the group."""
    return _convolve(ctx, x, weight, bias, groups, out_index=0)


@rule(
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    zero="affine",
    ends=True,
    convolves="transposed",
    turns="contract",
    labels=labels.convolution,
)
def transposed_convolution(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Dims:
    """W (in, out / groups, *kernel)."""
    return _convolve(ctx, x, weight, bias, groups, out_index=1)


def _convolve(
    ctx: Context, x: Value, weight: Value, bias: Value | None, groups: int, out_index: int
) -> Dims:
    kernel = tuple(ctx.solver.fix(d, "kernel position") for d in weight.dims[2:])
    # The dimension that runs over groups × channels of a group is 0 in both layouts.
    full = weight.dims[0]
    if out_index == 0:
        out, inside = full, weight.dims[1]
    else:
        out, inside = weight.dims[1], full
    channel_dim = len(x.dims) - len(kernel) - 1
    per_group: Dim = inside
    if groups == 1:
        inside = ctx.unify(x.dims[channel_dim], inside)
        per_group = inside
    else:
        parts = ctx.solver.factor(full, weight.shape[0] // groups)
        assert parts is not None, "a convolution's channels divide into its groups"
        group, rest = parts
        depthwise = weight.shape[1] == 1
        if depthwise:
            ctx.solver.fix(weight.dims[1], "single channel of a group")
        ctx.solver.set_kind(group, "channel" if depthwise else "group")
        if out_index == 0:
            inside = product((group, weight.dims[1]))
            per_group = weight.dims[1]
        else:
            inside, out = full, product((group, weight.dims[1]))
            per_group = rest
        ctx.unify(x.dims[channel_dim], inside)
        given = "groups" if "groups" in ctx.node.kwargs else 6
        ctx.extent(given, Extent(group))
    ctx.solver.set_kind(out, "channel")
    ctx.role(weight, "weight", consumed=(1 - out_index,))
    ctx.role(bias, "bias")
    if bias is not None:
        out = ctx.unify(out, bias.dims[0])
    ctx.freeze(x.dims[channel_dim + 1 :], "convolved over")
    spatial = ctx.fixed(ctx.shape[channel_dim + 1 :], "spatial position")
    # A transposed convolution applies its kernel once for every position of its input.
    places = spatial if out_index == 0 else x.dims[channel_dim + 1 :]
    ctx.cost(*x.dims[:channel_dim], out, per_group, *kernel, *places)
    return (*x.dims[:channel_dim], ctx.solver.resolve(out), *spatial)


def _matmul(ctx: Context, a: Value, b: Value) -> Dims:
    for value, inner in ((a, -1), (b, -2)):
        consumed: tuple[int, ...] = (inner % len(value.dims),) if len(value.dims) > 1 else (0,)
        if value is b and len(b.dims) > 1 and a.still and b.still:
            consumed = ()  # of a product of parameters B A, the rows of A make the ranks
        ctx.role(value, "weight", consumed=consumed)
    if len(b.dims) == 1:
        inside = ctx.unify(a.dims[-1], b.dims[0])
        ctx.cost(*a.dims[:-1], inside)
        return a.dims[:-1]
    inside = ctx.unify(a.dims[-1], b.dims[-2])
    rows = a.dims[-2:-1]
    # A batch dimension of size 1 stretches like in any broadcast.
    batch: list[Dim] = []
    count = len(ctx.shape) - len(rows) - 1
    for i in range(1, count + 1):
        n = ctx.shape[count - i]
        here = [v.dims[-2 - i] for v in (a, b) if len(v.dims) >= 2 + i and v.shape[-2 - i] == n]
        dim: Dim = here[0] if here else Fixed(n)
        for other in here[1:]:
            dim = ctx.unify(dim, other)
        batch.insert(0, dim)
    if a.tensor is None and b.tensor is None:
        _heads(ctx, batch[-1:], (inside, b.dims[-1]))
    ctx.cost(*batch, *rows, inside, b.dims[-1])
    return (*batch, *rows, b.dims[-1])


def _heads(ctx: Context, batch: Sequence[Dim], features: Sequence[Dim]) -> None:
    """Two computed matrices for each unit of an axis: attention, spelled out."""
    heads = [dim for dim in batch if atoms(ctx.solver.resolve(dim))]
    for dim in heads:
        ctx.solver.set_kind(dim, "head")
    for dim in features if heads else ():
        ctx.solver.set_kind(dim, "head feature")


@rule(
    *("matmul", "mm", "bmm", "mv", "dot"),
    zero="product",
    ends=True,
    turns="contract",
    labels=labels.matmul,
)
def matmul(ctx: Context, a: Value, b: Value) -> Dims:
    """Product of matrices, with broadcast batch dimensions."""
    return _matmul(ctx, a, b)


@rule(
    *("addmm", "baddbmm", "addmv"),
    zero="bias-first",
    ends=True,
    turns="contract",
    labels=labels.matmul,
)
def addmm(ctx: Context, bias: Value, a: Value, b: Value, **kwargs: Any) -> Dims:
    """Bias + a b."""
    dims = _matmul(ctx, a, b)
    ctx.role(bias, "bias")
    product_value = Value(dims, ctx.shape)
    return broadcast(ctx, [product_value, bias])


@rule("scaled_dot_product_attention", zero="value", ends=True, turns="attention")
def attention(
    ctx: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Dims:
    """softmax(q kᵀ · scale) v over (..., heads, length, features of a head)."""
    feature = ctx.unify(query.dims[-1], key.dims[-1])
    ctx.unify(key.dims[-2], value.dims[-2])
    ctx.freeze(key.dims[-2], "softmax over keys")
    lead = list(query.dims[:-2])
    kv_lead = [ctx.unify(a, b) for a, b in zip(key.dims[:-2], value.dims[:-2], strict=True)]
    for i in range(len(lead)):
        n, m = query.shape[i], key.shape[i]
        if n == m:
            lead[i] = ctx.unify(lead[i], kv_lead[i])
        elif enable_gqa and i == len(lead) - 1:
            # Grouped-query attention: query head = key/value head × place in its group.
            group = ctx.solver.fresh(n // m, "group")
            lead[i] = ctx.unify(lead[i], product((kv_lead[i], group)))
    if len(query.dims) >= 4:
        ctx.solver.set_kind(kv_lead[-1], "head")
        for dim in (query.dims[-1], value.dims[-1]):
            ctx.solver.set_kind(dim, "head feature")
    if attn_mask is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        for i in range(1, len(attn_mask.dims) + 1):
            if attn_mask.shape[-i] == shape[-i]:
                ctx.unify(attn_mask.dims[-i], (*lead, query.dims[-2], key.dims[-2])[-i])
    if scale is None:
        ctx.extent("scale", Pinned(feature, query.shape[-1] ** -0.5))
    ctx.cost(*lead, query.dims[-2], key.dims[-2], feature)
    ctx.cost(*lead, query.dims[-2], key.dims[-2], value.dims[-1])
    return (*lead, query.dims[-2], value.dims[-1])


@rule("einsum", zero="product", ends=True, turns="contract", labels=labels.einsum)
def einsum(ctx: Context, equation: str, operands: Sequence[Value], **kwargs: Any) -> Dims:
    """Sum over the letters that the result does not name."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "." in equation or not arrow:
        ctx.opaque(operands, "einsum without an explicit result")
        return ctx.fixed(ctx.shape, "einsum without an explicit result")
    dims: dict[str, Dim] = {}
    for letters, value in zip(terms, operands, strict=True):
        for letter, dim in zip(letters, value.dims, strict=True):
            dims[letter] = ctx.unify(dims[letter], dim) if letter in dims else dim
    for letters, value in zip(terms, operands, strict=True):
        summed = [i for i, letter in enumerate(letters) if letter not in result]
        ctx.role(value, "weight", consumed=summed)
    if len(operands) == 2 and all(value.tensor is None for value in operands):
        batch = set(terms[0]) & set(terms[1]) & set(result)
        rest = [dim for letter, dim in dims.items() if letter not in batch]
        _heads(ctx, [dims[letter] for letter in sorted(batch)], rest)
    ctx.cost(*dims.values())
    return tuple(dims[letter] for letter in result)
