"""Matrices as such: triangles, diagonals, inverses. The last two dimensions are left alone."""

from __future__ import annotations

from typing import Any

from graphs.axes.dims import Fixed
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import operator_name, rule


@rule("mH", "matrix_H", "adjoint", zero="move")
def adjoint(ctx: Context, x: Value) -> Dims:
    """The last two dimensions change places."""
    return (*x.dims[:-2], x.dims[-1], x.dims[-2])


@rule("tril", "triu", zero="move", uneven=True)
def triangle(ctx: Context, x: Value, *args: Any) -> Dims:
    """Entries on one side of the diagonal: rows and columns are told apart by their number."""
    ctx.freeze(x.dims[-2:], "a triangle of a matrix")
    return x.dims


@rule("diagonal", "diag", "diag_embed", "diagflat", "trace", zero="move", ends=True)
def diagonal(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Dims:
    """Rows and columns of the same number."""
    name = operator_name(ctx.node.target)
    named = dict(zip(("offset", "dim1", "dim2"), args, strict=False)) | kwargs
    first, second = (0, 1) if name == "diagonal" else (-2, -1)
    rank = len(x.dims)
    if name != "diagonal" or rank < 2:
        ctx.opaque([x], "a diagonal")
        return ctx.fixed(ctx.shape, "a diagonal")
    gone = {int(named.get("dim1", first)) % rank, int(named.get("dim2", second)) % rank}
    ctx.freeze([x.dims[i] for i in gone], "a diagonal")
    rest = (d for i, d in enumerate(x.dims) if i not in gone)
    return (*rest, Fixed(ctx.shape[-1], "a diagonal"))


@rule(
    *("linalg_inv", "inverse", "linalg_pinv", "linalg_cholesky", "cholesky", "linalg_qr"),
    *("linalg_svd", "linalg_eigh", "linalg_eigvalsh", "linalg_det", "linalg_slogdet", "logdet"),
    *("linalg_matrix_power", "matrix_power", "matrix_exp", "linalg_matrix_norm"),
    zero="never",
    ends=True,
)
def factorisation(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Every entry depends on the whole matrix; leading dimensions are a batch."""
    ctx.freeze(x.dims[-2:], f"{operator_name(ctx.node.target)} of units")
    batch = x.dims[:-2]
    results = tuple((*batch, *ctx.fixed(s[len(batch) :], "a matrix")) for s in ctx.shapes)
    return results if isinstance(ctx.node.meta["val"], tuple | list) else results[0]
