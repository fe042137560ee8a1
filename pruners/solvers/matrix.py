"""Weights as matrices: the view that solvers work on.

Columns run over kernel taps with the input channel fastest, (taps, in), so that the groups of N:M
lie along input channels. Statistics over inputs use the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from graphs import Network


Rows: TypeAlias = "int | tuple[int, ...]"
"""Dimensions of a weight that are rows of its matrix: one, or a stack of matrices and theirs."""


def as_matrix(weight: torch.Tensor, out_dim: Rows = 0) -> torch.Tensor:
    """(out, in, taps...) → (out, taps·in): the input channel varies fastest, as N:M kernels want.

    Args:
        weight: two dimensions or more.
        out_dim: the output dimension; the first of the others is the input dimension. Of a stack of
            matrices (slices, out, in), (0, 1): it has a row for every slice and output, and slices
            are blocks of rows, as the groups of a convolution are.
    """
    dims = _dims(out_dim)
    rows = weight.movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1)
    return rows if rows.ndim == 2 else rows.flatten(2).transpose(1, 2).flatten(1)


def out_dims(net: Network, names: Iterable[str]) -> dict[str, Rows]:
    """Name of a weight → its output dimension, 0 for torch's own layers; see `as_matrix`."""
    return {name: rows_of(net, name) for name in names}


def rows_of(net: Network, name: str) -> Rows:
    """The output dimension of a weight, or those that are rows where it is a stack of matrices."""
    tensor = net.tensors[name]
    made = tensor.making_units
    stacked = len(made) > 1 and tensor.input_dim is not None
    return made if stacked else tensor.output_dim


def row_count(shape: torch.Size, out_dim: Rows) -> int:
    """Rows of the matrix of a weight of this shape."""
    return prod(shape[i] for i in _dims(out_dim))


def matrix_shape(net: Network, name: str) -> tuple[int, int]:
    """(outputs, taps · inputs) of a weight: the shape of `as_matrix`."""
    value = net.tensors[name].value
    rows = row_count(value.shape, rows_of(net, name))
    return rows, value.numel() // rows


def taps_of(net: Network, name: str) -> int:
    """Taps of a kernel; 1 for a linear map, and for a stack of them."""
    return 1 if isinstance(rows_of(net, name), tuple) else net.tensors[name].value[0, 0].numel()


def from_matrix(matrix: torch.Tensor, shape: torch.Size, out_dim: Rows = 0) -> torch.Tensor:
    """Inverse of `as_matrix` for a weight of the given shape; contiguous."""
    dims = [dim % len(shape) for dim in _dims(out_dim)]
    rest = [size for i, size in enumerate(shape) if i not in dims]
    if len(rest) > 1:
        matrix = matrix.reshape(matrix.shape[0], -1, rest[0]).transpose(1, 2)
    weight = matrix.reshape(*(shape[i] for i in dims), *rest)
    return weight.movedim(tuple(range(len(dims))), tuple(dims)).contiguous()


def _dims(out_dim: Rows) -> tuple[int, ...]:
    return out_dim if isinstance(out_dim, tuple) else (out_dim,)


def narrowed(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The matrix in a narrower dtype; what is out of its range becomes the largest it has."""
    if torch.finfo(dtype).max < torch.finfo(matrix.dtype).max:
        matrix = matrix.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max)
    return matrix.to(dtype)


def relative_error(
    original: torch.Tensor, pruned: torch.Tensor, hessian: torch.Tensor
) -> torch.Tensor:
    """‖(W − W')X‖² / ‖WX‖² from H ∝ XXᵀ, for matrices (out, in); a scalar, at least float32."""
    wide = torch.promote_types(original.dtype, hessian.dtype)
    weight, change = original.to(wide), original.to(wide) - pruned.to(wide)
    energy = ((weight @ hessian.to(wide)) * weight).sum()
    lost = ((change @ hessian.to(wide)) * change).sum()
    return lost / energy.clamp_min(torch.finfo(wide).tiny)
