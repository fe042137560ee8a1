r"""Rotations in closed form: eigenbases of sums of symmetric matrices that turn with an axis.

With data     Σ C / tr C + Σ WᵀW / tr WᵀW + Σ WᵀGW / tr WᵀGW    over weights that read the axis
without       Σ WᵀW / tr WᵀW, and Σ WWᵀ / tr WWᵀ over those that make it

C is the second moment of what is read, G the curvature at the outputs of the reader; every sum is
divided by its trace. Turning an axis turns each of them, so another basis to begin with gives the
same network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from pruners.curves import Sides
from pruners.transformations.descent import orthogonal, without_ones
from pruners.transformations.sites import Site


def eigenbasis(
    sides: Mapping[str, Sides],
    sites: Sequence[Site],
    shape: Sequence[int],
    *,
    data: bool,
    ones: bool,
) -> torch.Tensor:
    """The matrix whose rows are the eigenvectors, the largest eigenvalue first.

    Args:
        sides: of the weights, by name.
        sites: where weights turn with the axis.
        shape: of the matrix, (units, units) or (units of another axis, units, units).
        data: whether moments and curvature count.
        ones: whether rotations keep the vector of ones: then it is the nearest one that does.

    Returns:
        float64, of this shape; the identity where there is nothing to go by.
    """
    sums: dict[str, torch.Tensor] = {}
    for site in sites:
        for kind, matrix in _matrices(sides[site.weight], site, data):
            total = matrix.new_zeros(tuple(shape))
            if site.which is None:
                total += matrix.sum(0)
            else:
                total.index_add_(0, site.which, matrix)
            size = _trace(total)
            sums[kind] = sums.get(kind, 0.0) + torch.where(size > 0, total / size, 0.0)
    if not sums:
        device = sides[sites[0].weight].weight.device
        return torch.eye(shape[-1], dtype=torch.float64, device=device).expand(*shape).clone()
    return eigenvectors(sums.values(), ones=ones)


def eigenvectors(sums: Iterable[torch.Tensor], *, ones: bool) -> torch.Tensor:
    """The eigenbasis of a sum of symmetric matrices, each divided by its trace.

    Args:
        sums: each (..., units, units), float64.
        ones: whether rotations keep the vector of ones: then it is the nearest one that does.

    Returns:
        (..., units, units): rows are eigenvectors, the largest eigenvalue first.
    """
    parts = [torch.where(_trace(s) > 0, s / _trace(s), 0.0) for s in sums]
    whole = torch.stack(parts).sum(0)
    vectors = torch.linalg.eigh((whole + whole.mT) / 2)[1].flip(-1).mT
    strongest = vectors.gather(-1, vectors.abs().argmax(-1, keepdim=True))
    found = vectors * strongest.sign()
    return orthogonal(without_ones(found) + 1 / whole.shape[-1]) if ones else found


def _matrices(one: Sides, site: Site, data: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """(kind, (runs, units, units)) of a weight."""
    weight = one.weight[0]
    if site.rows:
        if not data:
            lines = weight[site.index]
            yield "made", lines @ lines.mT
        return
    lines = weight.T[site.index]  # (runs, units, out)
    yield "read", lines @ lines.mT
    if data:
        yield "curved", lines @ one.curvature[0] @ lines.mT
        yield "moments", one.hessian[0][site.index[:, :, None], site.index[:, None, :]]


def _trace(matrix: torch.Tensor) -> torch.Tensor:
    """(..., 1, 1)."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
