r"""What single weights are worth in turned axes, from both sides of the network as it is.

    p_ij = ½ W_ij² / ([G⁻¹]_ii [H⁻¹]_jj)

is the expected loss of weight ij going while all others make up for it (Hassibi & Stork 1993,
"Optimal Brain Surgeon", eq. 5, for a Hessian G ⊗ H). It knows no units: scaling one where it is
made, and back where it is read, changes nothing. A rotation M of an axis turns H⁻¹ into M H⁻¹ Mᵀ
where a weight reads the axis, and G⁻¹ likewise where it makes it, so everything that is measured is
measured once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pruners.curves import Sides
from pruners.transformations.sites import Site

Matrices = Mapping[str, torch.Tensor]
"""Axis → matrix (units, units), or (units of another axis, units, units)."""

INPUTS, OUTPUTS = 0.01, 0.05
"""Damping of H and G before they are inverted; see `damped`."""

LEAST = 1e-6
"""Least damping, as a share of the mean of the diagonal."""


@dataclass(frozen=True)
class Side:
    """One side of a weight: the diagonal of the inverse of H or G, and how it turns.

    Args:
        diagonal: of the inverse as it is, (n,).
        sites: whose rows or columns these are.
        blocks: for each site, what its runs have of the inverse, (runs, units, units).
    """

    diagonal: torch.Tensor
    sites: Sequence[Site]
    blocks: Sequence[torch.Tensor]

    @classmethod
    def of(
        cls, matrix: torch.Tensor, sites: Sequence[Site], damping: float, dtype: torch.dtype
    ) -> Side:
        """The side of H or G, (n, n), symmetric."""
        matrix = damped(matrix, damping, uniform=bool(sites))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix)).to(dtype)
        blocks = [inverse[s.index[:, :, None], s.index[:, None, :]] for s in sites]
        return cls(inverse.diagonal().clone(), sites, blocks)

    def turned(self, matrices: Matrices) -> torch.Tensor:
        """The diagonal in turned axes, (n,)."""
        found = self.diagonal
        for site, block in zip(self.sites, self.blocks, strict=True):
            matrix = of_site(matrices, site)
            found = found.index_put((site.index,), (matrix @ block * matrix).sum(-1))
        return found


@dataclass(frozen=True)
class Weight:
    """A weight in a form whose importance can be asked for any rotation.

    Args:
        matrix: W, (out, in).
        rows, columns: both sides of it.
    """

    matrix: torch.Tensor
    rows: Side
    columns: Side

    @classmethod
    def of(cls, one: Sides, sites: Sequence[Site], dtype: torch.dtype = torch.float32) -> Weight:
        """A weight with a single group.

        Args:
            one: both sides of it.
            sites: where it turns.
            dtype: in which importance is computed.
        """
        made, read = ([s for s in sites if s.rows is rows] for rows in (True, False))
        return cls(
            one.weight[0].to(dtype),
            Side.of(one.curvature[0], made, OUTPUTS, dtype),
            Side.of(one.hessian[0], read, INPUTS, dtype),
        )

    @property
    def sites(self) -> list[Site]:
        """Where it turns."""
        return [*self.rows.sites, *self.columns.sites]

    def importance(self, matrices: Matrices) -> torch.Tensor:
        """Importance p in turned axes, (out, in)."""
        value = self.matrix
        for site in self.rows.sites:
            value = turned_rows(value, matrices, site)
        value = value.T
        for site in self.columns.sites:
            value = turned_rows(value, matrices, site)
        outputs, inputs = self.rows.turned(matrices), self.columns.turned(matrices)
        return value.T.square() / outputs[:, None] / inputs / 2


def damped(matrix: torch.Tensor, share: float, *, uniform: bool) -> torch.Tensor:
    """H or G made positive definite, the same by whatever member of the group it is turned.

    Args:
        matrix: (n, n), symmetric, no negative eigenvalues.
        share: of its diagonal that is added.
        uniform: whether the mean of the diagonal is added everywhere, which no rotation changes,
            and not each entry's own, which no scaling changes.

    Returns:
        (n, n); the identity for 0, where no weight is worth more than others.
    """
    diagonal = matrix.diagonal()
    mean = diagonal.mean()
    if not mean > 0:
        return torch.eye(len(matrix)).to(matrix)
    found = matrix.clone()
    found.diagonal().add_(share * mean if uniform else share * diagonal + LEAST * mean)
    return found


def importances(weights: Mapping[str, Weight], matrices: Matrices) -> Iterator[torch.Tensor]:
    """Of every weight, (out, in), in their order."""
    for weight in weights.values():
        yield weight.importance(matrices)


def of_site(matrices: Matrices, site: Site) -> torch.Tensor:
    """Its matrix, or one for each of its runs."""
    matrix = matrices[site.axis]
    return matrix if site.which is None else matrix[site.which]


def turned_rows(value: torch.Tensor, matrices: Matrices, site: Site) -> torch.Tensor:
    """Rows of a site turned, (rows, columns)."""
    return value.index_put((site.index,), of_site(matrices, site) @ value[site.index])
