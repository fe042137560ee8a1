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
from pruners.solvers.two_sided import regular
from pruners.transformations.sites import Site

Matrices = Mapping[str, torch.Tensor]
"""Axis → matrix (units, units), or (units of another axis, units, units)."""

DAMPING = 0.01
"""Share of the mean of its diagonal that is added to H before it is inverted."""


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
    def of(cls, matrix: torch.Tensor, sites: Sequence[Site], dtype: torch.dtype) -> Side:
        """The side of H or G, (n, n), positive definite."""
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
        strength: by which G was divided: importance is in the unit of the predictions' divergence.
    """

    matrix: torch.Tensor
    rows: Side
    columns: Side
    strength: float

    @classmethod
    def of(cls, one: Sides, sites: Sequence[Site], dtype: torch.dtype = torch.float32) -> Weight:
        """A weight with a single group.

        Args:
            one: both sides of it.
            sites: where it turns.
            dtype: in which importance is computed.
        """
        hessian, curvature = one.hessian[0], one.curvature[0]
        damped = hessian.clone()
        damped.diagonal().add_(DAMPING * hessian.diagonal().mean().clamp_min(1e-30))
        made, read = ([s for s in sites if s.rows is rows] for rows in (True, False))
        return cls(
            one.weight[0].to(dtype),
            Side.of(regular(curvature), made, dtype),
            Side.of(damped, read, dtype),
            float(curvature.diagonal().mean()),
        )

    def importance(self, matrices: Matrices) -> torch.Tensor:
        """Importance p in turned axes, (out, in)."""
        value = self.matrix
        for site in self.rows.sites:
            value = _turned(value, matrices, site)
        value = value.T
        for site in self.columns.sites:
            value = _turned(value, matrices, site)
        outputs, inputs = self.rows.turned(matrices), self.columns.turned(matrices)
        return value.T.square() / outputs[:, None] / inputs * (self.strength / 2)


def importances(weights: Mapping[str, Weight], matrices: Matrices) -> Iterator[torch.Tensor]:
    """Of every weight, (out, in), in their order."""
    for weight in weights.values():
        yield weight.importance(matrices)


def of_site(matrices: Matrices, site: Site) -> torch.Tensor:
    """Its matrix, or one for each of its runs."""
    matrix = matrices[site.axis]
    return matrix if site.which is None else matrix[site.which]


def _turned(value: torch.Tensor, matrices: Matrices, site: Site) -> torch.Tensor:
    """Rows of a site turned, (rows, columns)."""
    return value.index_put((site.index,), of_site(matrices, site) @ value[site.index])
