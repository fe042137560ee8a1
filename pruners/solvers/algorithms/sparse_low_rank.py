r"""Sparse + low rank: W ≈ S + L, found together.

For any sparse S the best low-rank rest is a projection, L = U Uᵀ(W − S), onto the r leading
eigenvectors U of (W − S) H (W − S)ᵀ (see `low_rank`). Put back into the objective, L is gone and U
is all that is left of it:

    min over S and U of ‖P (W − S) X‖²,     P = I − U Uᵀ.

Both metrics alternate between S and one warm-started QR step for U.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.algorithms.low_rank import (
    check_rank,
    first,
    output_directions,
    rank_for,
    regular,
    subspace,
    whole,
)
from pruners.solvers.base import Factors, Solution, solver
from pruners.solvers.damping import Damped, damp, shrinkage
from pruners.solvers.matrix import narrowed
from pruners.solvers.zeros import MaskPattern

METRICS = ("hessian", "diagonal")
RANK_SHARE = 0.25
# Steps for the first U, and alternations by metric.
WARM_UP, ITERATIONS = 3, {"diagonal": 30, "hessian": 16}
MOMENTUM = 0.9
# Conjugate-gradient steps on the final mask, before and after the last step of U.
REFIT = 8


@dataclass(frozen=True)
class _Scaled:
    """The problem in units in which S is chosen by magnitude."""

    matrix: torch.Tensor
    dense: torch.Tensor  # the matrix in working precision
    weight: torch.Tensor  # the same in units, (out, in)
    scale: torch.Tensor  # units, (in,)
    metric: torch.Tensor | None  # damped H in units; None for the identity
    inputs: torch.Tensor  # what errors are measured with: H, or its diagonal
    energy: torch.Tensor
    damped: Damped | None  # H; None for the identity

    @property
    def note(self) -> str:
        """What was unusual about H."""
        return "" if self.damped is None else self.damped.note

    def penalty(self, share: float) -> float:
        """ρ as in `pruners.solvers.algorithms.admm`: what the kept inputs leave unexplained of
        another one.

        In units of the conditional variances given all others.
        """
        if self.damped is None:
            return 1.0
        variances = self.damped.variances / self.damped.hessian.diagonal()
        return self.damped.unexplained(share) / variances.log().mean().exp().item()


@solver("sparse+low-rank")
class SparseLowRank:
    r"""A sparse matrix and two thin factors at one budget.

    | metric | minimises | problem of |
    |---|---|---|
    | "diagonal" | ‖(W − S − L) diag(‖x‖)‖² | OATS (Zhang & Papyan 2025), Liao et al. (2025) |
    | "hessian" | ‖(W − S − L) X‖² | HASSLE-free and 3BASiL (Makni et al. 2025) |

    See `by_norms` and `by_hessian` for how.

    The density counts all numbers: r = ⌊κ · density · out · in / (out + in)⌋ ranks, and the rest of
    the budget, to one weight, is S. With an N:M pattern, S is N:M and the rest of the density is
    rank; without a density, κ / (1 − κ) of what S stores comes on top (OATS, §3.3). With an
    explicit `rank`, the density is that of S alone, as in `pruners.budgets.Budget`.

    Args:
        metric: "hessian" or "diagonal", which needs only the norms of the inputs.
        rank_share: κ, the share of the budget that the factors get.
        rank: of the factors, instead of a share.
        iterations: alternations; None for 16 ("hessian") or 30 ("diagonal").
        damping: share of its diagonal that is added to the Hessian; None: by the number of samples
            (`pruners.solvers.damping.shrinkage`).
    """

    masked, factored = True, True

    def __init__(
        self,
        metric: str = "hessian",
        rank_share: float = RANK_SHARE,
        rank: int | None = None,
        iterations: int | None = None,
        damping: float | None = None,
    ) -> None:
        if metric not in METRICS:
            raise ValueError(f'metric must be "hessian" or "diagonal" (got {metric!r})')
        if not 0 <= rank_share < 1:
            raise ValueError(f"rank_share is a share, at least 0 and below 1 (got {rank_share})")
        if rank is not None and rank < 0:
            raise ValueError(f"rank must be at least 0 (got {rank})")
        self.metric = metric
        self.rank_share = rank_share
        self.rank = rank
        self.iterations = ITERATIONS[metric] if iterations is None else iterations
        self.damping = damping
        self.needs = frozenset({"hessian" if metric == "hessian" else "norms"})

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> _Scaled:
        """Scale the columns: by norms, or by conditional deviations for the full Hessian."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        dense = matrix.to(wide)
        if self.metric == "diagonal":
            inputs = statistics["norms"].to(wide).square()
            scale = regular(inputs.diag(), 0.0).diagonal().sqrt()
            energy = (dense.square() * inputs).sum()
            return _Scaled(matrix, dense, dense * scale, scale, None, inputs, energy, None)
        hessian, share = statistics["hessian"].to(wide), self.damping
        if share is None:
            share = shrinkage(hessian, statistics.get("samples"))
        damped = damp(hessian, share)
        scale = damped.variances.sqrt()
        weight = (dense * scale).masked_fill(damped.dead, 0.0)
        return _Scaled(
            matrix=matrix,
            dense=dense,
            weight=weight,
            scale=scale,
            metric=damped.hessian / scale[:, None] / scale,
            inputs=hessian,
            energy=((dense @ hessian) * dense).sum(),
            damped=damped,
        )

    def solve(self, state: _Scaled, density: float | None, pattern: MaskPattern) -> Solution:
        """Split the budget and alternate.

        Returns:
            Factors, the mask of S and their sum; `statistics` has the `rank`, all numbers `kept`,
            those of S (`sparse`), and the `error`: what is minimised, as a share of ‖WX‖².

        Raises:
            ValueError: a matrix or a density that the pattern or the rank does not fit.
        """
        rows, columns = state.matrix.shape
        pattern.insist(rows, columns)
        rank, share = self.split(density, pattern, rows, columns)
        if share >= 1:
            return whole(state.matrix, "sparse + low-rank")
        if rank >= min(rows, columns) or share <= 0:
            # Nothing is left for S to do, or S may do nothing.
            exact = rank >= min(rows, columns)
            subject = (state.dense, None) if exact else (state.weight, state.metric)
            basis, sparse = output_directions(*subject)[0][:, :rank], torch.zeros_like(state.dense)
            mask = pattern.top(state.weight.abs(), share)
        elif state.metric is None:
            basis, sparse, mask = by_norms(state.weight, rank, pattern, share, self.iterations)
        else:
            basis, sparse, mask = by_hessian(
                state.weight,
                state.metric,
                state.penalty(share),
                rank,
                pattern,
                share,
                self.iterations,
            )
        return self._solution(state, basis, sparse / state.scale, mask, pattern)

    def split(
        self, density: float | None, pattern: MaskPattern, rows: int, columns: int
    ) -> tuple[int, float]:
        """Rank of L and kept share of S."""
        size, cost = rows * columns, rows + columns
        if self.rank is not None:
            check_rank(self.rank, rows, columns)
            alone = density is None and not pattern.m
            return self.rank, 0.0 if alone else pattern.density(density)
        if pattern.m:
            share = pattern.n / pattern.m
            total = share / (1 - self.rank_share) if density is None else density
            if total < share - 1e-6 or (density or 0.0) > 1:
                raise ValueError(
                    f"pattern {pattern} alone keeps {share:.6g} of the weights, so the density, "
                    f"factors included, is from there to 1 (got {total:.6g})"
                )
            return rank_for(max(0.0, total - share), rows, columns), share
        total = pattern.density(density)
        if total == 1:
            return 0, 1.0
        rank = rank_for(self.rank_share * total, rows, columns)
        return rank, max(0.0, total - rank * cost / size)

    def _solution(
        self,
        state: _Scaled,
        basis: torch.Tensor,
        sparse: torch.Tensor,
        mask: torch.Tensor,
        pattern: MaskPattern,
    ) -> Solution:
        """S in the units of the matrix, and L as the projection of what S leaves."""
        dtype, wide = state.matrix.dtype, state.dense.dtype
        rank, size = basis.shape[1], sum(state.matrix.shape)
        sparse = narrowed(sparse.masked_fill(~mask, 0.0), dtype).to(wide)
        right = narrowed(basis.T @ (state.dense - sparse), dtype)
        factors = Factors(basis.to(dtype).contiguous(), right)
        low = factors.left.to(wide) @ right.to(wide)
        weight = narrowed(low.add_(sparse), dtype)
        change = state.dense - weight.to(wide)
        mapped = change @ state.inputs if state.inputs.ndim == 2 else change * state.inputs
        error = (mapped * change).sum() / state.energy.clamp_min(torch.finfo(wide).tiny)
        count = int(mask.sum())
        return Solution(
            weight=weight,
            mask=mask,
            status=f"Kept {count} of {mask.numel()} weights ({pattern}) beside rank {rank} "
            f"({rank * size} numbers) by {self.iterations} alternations ({self.metric})."
            + state.note,
            statistics={
                "kept": count + rank * size,
                "sparse": count,
                "rank": rank,
                "error": max(0.0, error.item()),
            },
            factors=factors,
        )


def by_norms(
    weight: torch.Tensor, rank: int, pattern: MaskPattern, density: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Alternate between S = the largest entries of W − L and one QR step for L.

        Q = qr((W − S) Vᵀ),   V = Qᵀ(W − S),   L = QV

    (Yu et al. 2017, GreBsmo), where W − S is carried on along its last change: the alternation
    creeps along a valley, and momentum gets it to the end in a third of the steps.

    Args:
        weight: W in units of the inputs, (out, in).
        rank: of L, below min(out, in).
        pattern: of S.
        density: of S, strictly between 0 and 1.
        iterations: at most.

    Returns:
        U (out, rank), S (out, in), and its bool mask.
    """
    if rank == 0:
        mask = pattern.top(weight.abs(), density)
        return weight[:, :0], weight * mask, mask
    basis = subspace(weight, None, first(weight, rank), WARM_UP)
    right = basis.T @ weight
    low, rest, before = basis @ right, weight, None
    for _ in range(iterations):
        mask = pattern.nearly_top((weight - low).abs_(), density)
        rest = torch.where(mask, low, weight)  # W − S
        ahead = rest if before is None else torch.lerp(before, rest, 1.0 + MOMENTUM)
        before = rest
        basis = torch.linalg.qr(ahead @ right.T).Q
        right = basis.T @ ahead
        low = torch.mm(basis, right)
    low = basis @ (basis.T @ rest)
    mask = pattern.top((weight - low).abs_(), density)
    return basis, (weight - low).mul_(mask), mask


def by_hessian(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    penalty: float,
    rank: int,
    pattern: MaskPattern,
    density: float,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Alternating directions for S on ‖P(W − S)X‖², with one QR step for U in between.

    In Douglas–Rachford form, z = x on the mask of its largest |x| and u = x − z. The objective does
    not see what lies along U, so its proximal step leaves that as it is:

        g = W − z + u,     x ← z + P(g − g · ρ(H + ρI)⁻¹),     P = I − UUᵀ.

    Without U this is the iteration of `pruners.solvers.algorithms.admm`. At the end S is refitted
    on its mask.

    Args:
        weight: W in units of conditional variance one, (out, in).
        hessian: H in these units, positive definite, (in, in).
        penalty: ρ.
        rank: of L, below min(out, in).
        pattern: of S.
        density: of S, strictly between 0 and 1.
        iterations: of alternating directions.

    Returns:
        U (out, rank), S (out, in), and its bool mask.
    """
    resolvent = hessian.clone()
    resolvent.diagonal().add_(penalty)
    resolvent = torch.cholesky_inverse(torch.linalg.cholesky(resolvent)).mul_(penalty)
    basis = weight[:, :0]
    if rank:
        basis = subspace(weight, hessian, first(weight, rank), WARM_UP)
    point = weight - basis @ (basis.T @ weight)
    for _ in range(iterations):
        sparse = point * pattern.nearly_top(point.abs(), density)
        rest = weight - sparse
        gap = rest.add(point).sub_(sparse)
        gap.addmm_(gap.clone(), resolvent, alpha=-1.0)
        gap.addmm_(basis, basis.T @ gap, alpha=-1.0)
        point = sparse.add_(gap)
        if rank:
            basis = subspace(rest, hessian, basis, 1)
    mask = pattern.top(point.abs(), density)
    sparse = refit(weight, point, mask, hessian, basis, REFIT)
    if rank:
        basis = subspace(weight - sparse, hessian, basis, 1)
        sparse = refit(weight, sparse, mask, hessian, basis, REFIT)
    return basis, sparse, mask


def refit(
    weight: torch.Tensor,
    start: torch.Tensor,
    mask: torch.Tensor,
    hessian: torch.Tensor,
    basis: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    r"""Argmin over S on the mask of tr P(W − S)H(W − S)ᵀ, by preconditioned conjugate gradients.

    L follows S at every step, so both are fitted at once. P ties the rows together: they share one
    step length.

    Args:
        weight: W, (out, in).
        start: S to start from; entries outside the mask are ignored.
        mask: bool, (out, in).
        hessian: H, (in, in), positive definite.
        basis: U, (out, rank), orthonormal columns.
        steps: number of steps.

    Returns:
        S, (out, in), zero outside the mask.
    """
    support, scale = mask.to(weight.dtype), 1.0 / hessian.diagonal()
    tiny = torch.finfo(weight.dtype).tiny

    def image(matrix: torch.Tensor) -> torch.Tensor:
        found = matrix @ hessian
        return found.addmm_(basis, basis.T @ found, alpha=-1.0).mul_(support)

    point = start * support
    residual = image(weight - point)
    direction = residual * scale
    strength = (residual * direction).sum()
    # P leaves directions without curvature; below this only rounding is left, and runs there.
    floor = strength * torch.finfo(weight.dtype).eps ** 1.5
    going = strength > 0
    for _ in range(steps):
        mapped = image(direction)
        curvature = (direction * mapped).sum()
        going = going & (strength > floor) & (curvature > 0)
        length = torch.where(going, strength / curvature.clamp_min(tiny), 0.0)
        point.addcmul_(length, direction)
        residual.addcmul_(length, mapped, value=-1.0)
        conditioned = torch.mul(residual, scale, out=mapped)
        following = (residual * conditioned).sum()
        direction.mul_(following / strength.clamp_min(tiny)).add_(conditioned)
        strength = following
    return point
