"""Weights as matrices: the view that solvers work on.

Columns run over kernel taps with the input channel fastest, (taps, in), so that the groups of N:M
lie along input channels. Statistics over inputs use the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from graphs import Network


def as_matrix(weight: torch.Tensor, out_dim: int = 0) -> torch.Tensor:
    """(out, in, taps...) → (out, taps·in): the input channel varies fastest, as N:M kernels want.

    Args:
        weight: two dimensions or more.
        out_dim: the output dimension; the first of the others is the input dimension.
    """
    rows = weight.movedim(out_dim, 0)
    return rows if rows.ndim == 2 else rows.flatten(2).transpose(1, 2).flatten(1)


def out_dims(net: Network, names: Iterable[str]) -> dict[str, int]:
    """Name of a weight → its output dimension: 0 for torch's own layers."""
    return {name: net.tensors[name].output_dim for name in names}


def matrix_shape(net: Network, name: str) -> tuple[int, int]:
    """(outputs, taps · inputs) of a weight: the shape of `as_matrix`."""
    tensor = net.tensors[name]
    rows = tensor.value.shape[tensor.output_dim]
    return rows, tensor.value.numel() // rows


def from_matrix(matrix: torch.Tensor, shape: torch.Size, out_dim: int = 0) -> torch.Tensor:
    """Inverse of `as_matrix` for a weight of the given shape; contiguous."""
    if len(shape) > 2:
        rest = [size for i, size in enumerate(shape) if i != out_dim % len(shape)]
        taps = matrix.reshape(matrix.shape[0], -1, rest[0]).transpose(1, 2)
        matrix = taps.reshape(matrix.shape[0], *rest)
    return matrix.movedim(0, out_dim).contiguous()


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
