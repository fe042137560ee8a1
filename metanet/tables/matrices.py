"""Every tensor read as (taps, rows, columns): producing positions by consuming positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch

from graphs.axes.dims import Atom, Axis, Dim, Prod, atoms, unit_index

CHANGED = ("weight", "embedding", "bias", "scale")
"""Roles whose values a metanetwork may change."""
MATRICES = ("weight", "embedding")
"""Roles that carry messages and sparsity budgets."""
READ = (*CHANGED, "running_mean", "running_var")
"""Roles that a metanetwork reads; everything else is constant to it."""
MAX_TAPS = 1024
"""Fixed positions beyond the second dimension count as kernel taps up to this many."""


@dataclass(frozen=True)
class Matrix:
    """The reading of one tensor as `taps` matrices of `rows` x `cols` positions.

    Rows run along the producing dimensions, columns along the consuming ones, taps along the
    fixed dimensions after the second (the kernel of a convolution). `write(read(v)) == v`.

    Args:
        name: state-dict name.
        role: the tensor's role (`weight`, `bias`, ...).
        shape: of the tensor.
        order: permutation of the dimensions that puts taps first, then rows, then columns.
        taps: sizes of the tap dimensions, e.g. (3, 3).
        row: producing dimension, as one product.
        col: consuming dimension, as one product.
        rows: positions along `row`.
        cols: positions along `col`.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    taps: tuple[int, ...]
    row: Dim
    col: Dim
    rows: int
    cols: int

    @property
    def kernel(self) -> int:
        """Number of taps."""
        return prod(self.taps)

    def read(self, value: torch.Tensor) -> torch.Tensor:
        """Tensor of `shape` -> (taps, rows, cols)."""
        return value.permute(self.order).reshape(self.kernel, self.rows, self.cols)

    def write(self, matrix: torch.Tensor) -> torch.Tensor:
        """(taps, rows, cols) -> tensor of `shape`."""
        permuted = matrix.reshape([self.shape[i] for i in self.order])
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return permuted.permute(inverse)


def matricise(
    name: str, role: str, shape: tuple[int, ...], dims: tuple[Dim, ...], produces: tuple[bool, ...]
) -> Matrix:
    """Split the dimensions of a tensor into taps, rows and columns.

    An embedding produces along both of its dimensions: the last one becomes the rows, and what
    the index looks up the columns.
    """
    taps = [i for i in range(2, len(dims)) if not atoms(dims[i])]
    if prod(shape[i] for i in taps) > MAX_TAPS:
        taps = []
    rows = [i for i in range(len(dims)) if i not in taps and produces[i]]
    cols = [i for i in range(len(dims)) if i not in taps and not produces[i]]
    if not cols:
        rows, cols = rows[-1:], rows[:-1]
    return Matrix(
        name=name,
        role=role,
        shape=tuple(shape),
        order=(*taps, *rows, *cols),
        taps=tuple(shape[i] for i in taps),
        row=_joined([dims[i] for i in rows]),
        col=_joined([dims[i] for i in cols]),
        rows=prod(shape[i] for i in rows),
        cols=prod(shape[i] for i in cols),
    )


def _joined(dims: list[Dim]) -> Dim:
    return dims[0] if len(dims) == 1 else Prod(tuple(dims))


def slots(
    dim: Dim, axes: Mapping[str, Axis], offsets: Mapping[str, int], nowhere: int
) -> torch.Tensor:
    """The units that each position along `dim` belongs to, as rows of the table of unit states.

    Args:
        dim: a dimension.
        axes: the network's axes.
        offsets: axis name -> first row of the axis in the table; axes left out carry no state.
        nowhere: the row that stands for "no unit".

    Returns:
        int64 (positions, A): A is the largest number of axes at one position, at least 1.
    """
    if isinstance(dim, Atom) and dim.axis in offsets:
        return torch.arange(axes[dim.axis].size)[:, None] + offsets[dim.axis]
    columns = []
    for axis in atoms(dim):
        if axis in offsets:
            index = unit_index(dim, axis, axes)
            columns.append(torch.where(index >= 0, index + offsets[axis], nowhere))
    if not columns:
        return torch.full((1, 1), nowhere)  # broadcasts over the positions
    table = torch.stack(columns, dim=1).sort(dim=1).values  # real slots before `nowhere`
    return table[:, : max(1, int((table != nowhere).sum(1).max()))]
