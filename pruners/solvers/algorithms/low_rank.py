r"""Low rank: W ≈ L with the outputs in mind, in two thin factors instead of one dense matrix.

The best L of rank r in the metric of the inputs, argmin ‖(W − L)X‖², is the truncated singular
value decomposition of W·C carried back by C⁻¹, where H = CCᵀ. It is also the projection of W onto
the r leading eigenvectors of W H Wᵀ, its principal output directions,

    L = U (Uᵀ W),     W H Wᵀ = U Σ² Uᵀ,

and that needs neither C nor its inverse: a singular Hessian is as good as any.

With the curvature G = FᵀF of the output (`pruners.solvers.two_sided`) it is the same problem for
F W, whatever root F of G is taken:

    L = F⁻¹ U (Uᵀ F W),     F W H Wᵀ Fᵀ = U Σ² Uᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.base import Factors, Solution, solver
from pruners.solvers.damping import shrinkage
from pruners.solvers.two_sided import regular as weighing
from pruners.solvers.zeros import MaskPattern

# Columns beyond the rank that subspace iterations carry along, and the seed of the first ones.
OVERSAMPLING, SEED = 8, 0


@dataclass(frozen=True)
class _Directions:
    """The matrix and its output directions, the most important first."""

    matrix: torch.Tensor
    weight: torch.Tensor  # (out, in), working precision; F W with a curvature
    back: torch.Tensor | None  # F⁻¹, (out, out), upper triangular; None for the identity
    hessian: torch.Tensor | None  # damped; None for the identity
    directions: torch.Tensor | None  # (out, min(out, in)); None: found for each rank
    energy: torch.Tensor  # Σ², (min(out, in),), or its sum

    def factors(self, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Left (out, rank) and right (rank, in) of the projection of W onto directions."""
        right = basis.T @ self.weight
        return (basis if self.back is None else self.back @ basis), right


@solver("low-rank")
class LowRank:
    """Two factors that reproduce the layer's outputs best (SVD-LLM, Wang et al. 2025, §3.1).

    With a Hessian among the statistics the approximation is the best one for the layer's outputs;
    without, for the weight. All ranks are nested: one decomposition serves every budget.

    Args:
        rank: of the factors, 0 to min(out, in); None: the largest whose factors fit the density,
            ⌊density · out · in / (out + in)⌋.
        iterations: 0 for the exact decomposition; otherwise steps of subspace iteration (Halko et
            al. 2011, algorithm 4.4), faster for small ranks and within a percent after four.
        damping: share of its diagonal that is added to the Hessian; None: by the number of samples
            (`pruners.solvers.damping.shrinkage`).
    """

    masked, factored = False, True
    needs: frozenset[str] = frozenset()

    def __init__(
        self, rank: int | None = None, iterations: int = 0, damping: float | None = None
    ) -> None:
        if rank is not None and rank < 0:
            raise ValueError(f"rank must be at least 0 (got {rank})")
        if iterations < 0:
            raise ValueError(f"iterations must be at least 0 (got {iterations})")
        self.rank = rank
        self.iterations = iterations
        self.damping = damping

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> _Directions:
        """Decompose once for all ranks, unless iterations are asked for."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        weight, hessian = matrix.to(wide), statistics.get("hessian")
        if hessian is not None:
            hessian, share = hessian.to(wide), self.damping
            if share is None:
                share = shrinkage(hessian, statistics.get("samples"))
            hessian = regular(hessian, share)
        back = None
        if (curvature := statistics.get("curvature")) is not None:
            root = torch.linalg.cholesky(weighing(curvature.to(wide))).T
            back = torch.linalg.inv(root)
            weight = root @ weight
        if self.iterations:
            directions, energy = None, (through(weight, hessian) * weight).sum()
        else:
            directions, energy = output_directions(weight, hessian)
        return _Directions(matrix, weight, back, hessian, directions, energy)

    def solve(self, state: _Directions, density: float | None, pattern: MaskPattern) -> Solution:
        """Truncate; `statistics` has the `rank`, the numbers `kept`, and the `error`.

        Returns:
            Factors and an empty mask; the dense matrix itself at density 1, which no factors match.

        Raises:
            ValueError: a pattern of zeros, a rank that is too high, or a rank and a density.
        """
        if pattern.name != "unstructured":
            raise ValueError(
                f"low-rank places no zeros, so {pattern} does not apply; leave the pattern out or "
                'take the solver "sparse+low-rank"'
            )
        rows, columns = state.matrix.shape
        if self.rank is None and pattern.density(density) == 1:
            return whole(state.matrix, "low-rank")
        if self.rank is not None and density is not None:
            raise ValueError(
                f"the rank is given ({self.rank}), so there is no density to meet (got {density})"
            )
        rank = self.rank
        if rank is None:
            rank = rank_for(pattern.density(density), rows, columns)
        check_rank(rank, rows, columns)
        if state.directions is not None:
            basis = state.directions[:, :rank]
        else:
            width = min(rank + OVERSAMPLING, rows, columns) if rank else 0
            wider = subspace(
                state.weight, state.hessian, first(state.weight, width), self.iterations
            )
            basis = leading(state.weight, state.hessian, wider, rank)
        left, right = state.factors(basis)
        caught = (through(right, state.hessian) * right).sum()
        total = state.energy.sum().clamp_min(torch.finfo(right.dtype).tiny)
        dtype = state.matrix.dtype
        factors = Factors(left.to(dtype).contiguous(), right.to(dtype))
        return Solution(
            weight=factors.product(),
            mask=torch.zeros_like(state.matrix, dtype=torch.bool),
            status=f"Kept rank {rank} of {min(rows, columns)} in two factors "
            f"({rank * (rows + columns)} numbers).",
            statistics={
                "kept": rank * (rows + columns),
                "rank": rank,
                "error": max(0.0, 1.0 - (caught / total).item()),
            },
            factors=factors,
        )


def rank_for(density: float, rows: int, columns: int) -> int:
    """The largest rank whose factors store no more than this share of the dense matrix."""
    return int(density * rows * columns / (rows + columns) + 1e-9)


def check_rank(rank: int, rows: int, columns: int) -> None:
    """Refuse a rank that a matrix of this size cannot have."""
    if rank > min(rows, columns):
        raise ValueError(
            f"a matrix of {rows} × {columns} has at most rank {min(rows, columns)} (got {rank})"
        )


def whole(matrix: torch.Tensor, what: str) -> Solution:
    """The dense matrix as a solution: the best that a budget of all numbers can buy."""
    return Solution(
        weight=matrix.clone(),
        mask=torch.ones_like(matrix, dtype=torch.bool),
        status=f"Kept all {matrix.numel()} weights: {what} has nothing to save at density 1.",
        statistics={"kept": matrix.numel(), "rank": 0, "error": 0.0},
    )


def regular(hessian: torch.Tensor, share: float) -> torch.Tensor:
    """H + λ diag(H), with no input entirely without weight.

    Inputs that are always zero get the smallest share that tells their weights from nothing, so
    that rank left over goes to them; a Hessian of zeros becomes the identity.
    """
    diagonal = hessian.diagonal().clamp_min(0)
    mean = diagonal.mean()
    if not mean > 0:
        return torch.eye(len(diagonal), dtype=hessian.dtype, device=hessian.device)
    found = hessian.clone()
    found.diagonal().copy_(diagonal * (1 + share) + 1e-6 * mean * (diagonal == 0))
    return found


def through(matrix: torch.Tensor, hessian: torch.Tensor | None) -> torch.Tensor:
    """A·H, or A where the metric is the identity."""
    return matrix if hessian is None else matrix @ hessian


def output_directions(
    weight: torch.Tensor, hessian: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvectors and eigenvalues of W H Wᵀ inside the column space of W, largest first.

    Args:
        weight: (out, in).
        hessian: (in, in), symmetric; None for the identity.

    Returns:
        U, (out, min(out, in)), orthonormal columns, with U Uᵀ W = W; and Σ², (min(out, in),).
    """
    basis, core = None, weight
    if weight.shape[0] > weight.shape[1]:
        basis, core = torch.linalg.qr(weight)
    gram = through(core, hessian) @ core.T
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    vectors = vectors.flip(1)
    return vectors if basis is None else basis @ vectors, values.flip(0).clamp_min(0)


def first(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """Orthonormal directions to start from, (out, rank), the same at every call."""
    generator = torch.Generator().manual_seed(SEED)
    shape = weight.shape[0], rank
    start = torch.randn(shape, generator=generator, dtype=torch.float32)
    return torch.linalg.qr(start.to(weight)).Q


def subspace(
    weight: torch.Tensor, hessian: torch.Tensor | None, start: torch.Tensor, steps: int
) -> torch.Tensor:
    """QR subspace iteration for the leading eigenvectors of W H Wᵀ, which is never formed.

    Args:
        weight: (out, in).
        hessian: (in, in); None for the identity.
        start: (out, rank); directions of a nearby problem save steps.
        steps: number of steps, each O(out · in · rank).

    Returns:
        (out, rank), orthonormal columns.
    """
    found = start
    for _ in range(steps):
        right = found.T @ weight
        found = torch.linalg.qr(weight @ through(right, hessian).T).Q
    return found


def leading(
    weight: torch.Tensor, hessian: torch.Tensor | None, basis: torch.Tensor, rank: int
) -> torch.Tensor:
    """The `rank` directions inside a basis that catch most of W H Wᵀ (Rayleigh–Ritz)."""
    right = basis.T @ weight
    gram = through(right, hessian) @ right.T
    vectors = torch.linalg.eigh((gram + gram.T) / 2).eigenvectors.flip(1)
    return basis @ vectors[:, :rank]
