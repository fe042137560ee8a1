r"""Alternating directions: the mask and the weights are found together, not one after the other.

Which weights should stay depends on how the others make up for those that go. The alternating
direction method of multipliers (ADMM) alternates between a dense least-squares problem and the best
mask for its solution. In Douglas–Rachford form its whole state is one matrix x, whose largest
entries are the pruned weight z and whose others are the multipliers u:

    z = x on the mask of its largest |x|,     u = x off the mask
    x ← w + u − (w − z + u) · ρ (H + ρI)⁻¹

With the curvature G of the output (`pruners.solvers.two_sided`) the last step is taken in the
eigenbases of both sides, G = Q diag(μ) Qᵀ and H = P diag(λ) Pᵀ, where it is a division:

    x ← w + u − Q (Qᵀ (w − z + u) P ∘ ρ / (μ_i λ_j + ρ)) Pᵀ
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.base import Solution, solver
from pruners.solvers.damping import Damped, damp, shrinkage
from pruners.solvers.matrix import narrowed
from pruners.solvers.two_sided import is_diagonal, regular
from pruners.solvers.zeros import MaskPattern

# With both sides masks go on changing, and get no better but for N:M (docs/solvers.md).
ITERATIONS, TWO_SIDED_ITERATIONS = 60, 30
TOLERANCE = 0.005
# A block is worth the sum of many entries: its rank changes late, and at first not at all.
LEAST = 4, 16


@dataclass(frozen=True)
class _Scaled:
    """The problem in units in which every input has conditional variance one."""

    matrix: torch.Tensor
    weight: torch.Tensor  # w, (out, in), in units of the inputs
    hessian: torch.Tensor  # H, (in, in), in units of the inputs
    curvature: torch.Tensor | None  # G, (out, out), as it is; None for the identity
    units: torch.Tensor  # of the inputs, (in,)
    damped: Damped


@solver("admm")
class ADMM:
    r"""Mask and weights by alternating directions, at a fixed penalty in the OBS metric.

    The splitting is that of ALPS (Meng et al. 2024, eq. 4–6). Two choices differ, and make an
    eigendecomposition and a schedule of growing penalties unnecessary:

    - columns are scaled by their conditional variance 1/[H⁻¹]_jj instead of H_jj, so |x| is the
      saliency of the optimal brain surgeon (Hassibi & Stork 1993, eq. 5);
    - ρ is what the kept inputs leave unexplained of another one, on average (the mean pivot of a
      Cholesky factorisation), in the same units.

    With `curvature` among the statistics, rows and columns are treated alike; rows of a block go
    together, so none of them makes up for another.

    The weights it returns solve the problem up to the distance between its two sides: refit them on
    their mask, as `pruners.solvers.solve` does.

    Args:
        iterations: at most; None for 60, and for 30 where rows share a `curvature` and zeros need
            no groups.
        tolerance: stop when fewer than this share of the kept weights changed in an iteration.
        damping: share of its diagonal that is added to the Hessian; None: by the number of samples
            (`pruners.solvers.damping.shrinkage`).
    """

    masked, factored = True, False
    needs: frozenset[str] = frozenset({"hessian"})

    def __init__(
        self,
        iterations: int | None = None,
        tolerance: float = TOLERANCE,
        damping: float | None = None,
    ) -> None:
        self.iterations = iterations
        self.tolerance = tolerance
        self.damping = damping

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> _Scaled:
        """Scale the problem and find its penalty."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        hessian, share = statistics["hessian"].to(wide), self.damping
        if share is None:
            share = shrinkage(hessian, statistics.get("samples"))
        damped = damp(hessian, share)
        units = damped.variances.sqrt()
        given = statistics.get("curvature")
        weight = matrix.to(wide) * units
        weight[:, damped.dead] = 0.0
        return _Scaled(
            matrix=matrix,
            weight=weight,
            hessian=damped.hessian / units[:, None] / units,
            curvature=None if given is None else regular(given.to(wide)),
            units=units,
            damped=damped,
        )

    def solve(self, state: _Scaled, density: float | None, pattern: MaskPattern) -> Solution:
        """Iterate; `statistics`: `iterations`, the share that `moved` last, and the `damping`."""
        pattern.insist(*state.weight.shape)
        share = pattern.density(density)
        damped, weight, scale, curvature = state.damped, state.weight, state.units, None
        if state.curvature is not None:
            rows = deviations(state.curvature, pattern.block[0])
            weight, scale = weight * rows[:, None], rows[:, None] * scale
            if not is_diagonal(state.curvature):
                curvature = state.curvature / rows[:, None] / rows
        # In units of the conditional variances given all others.
        variances = (damped.variances / damped.hessian.diagonal()).log().mean().exp().item()
        penalty = damped.unexplained(share) / variances
        if 0 < share < 1:
            iterations = self.iterations
            if iterations is None:
                free = curvature is not None and not pattern.m
                iterations = TWO_SIDED_ITERATIONS if free else ITERATIONS
            point, mask, count, moved = iterate(
                weight,
                shrinking(state.hessian, curvature, penalty),
                pattern,
                share,
                iterations,
                self.tolerance,
            )
            result = narrowed(point.div_(scale).mul_(mask), state.matrix.dtype)
        else:
            mask, count, moved = pattern.top(weight.abs(), density), 0, 0.0
            result = state.matrix.masked_fill(~mask, 0.0)
        result[:, damped.dead] = (state.matrix * mask)[:, damped.dead]
        kept = int(mask.sum())
        return Solution(
            weight=result,
            mask=mask,
            status=f"Kept {kept} of {mask.numel()} weights by {count} alternating steps "
            f"({pattern}), {moved:.1%} of them new in the last one." + damped.note,
            statistics={"kept": kept, "iterations": count, "moved": moved, "damping": damped.share},
        )


def iterate(
    weight: torch.Tensor,
    shrink: Callable[[torch.Tensor], torch.Tensor],
    pattern: MaskPattern,
    density: float,
    iterations: int,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor, int, float]:
    """Douglas–Rachford iterations from the dense weight.

    Args:
        weight: w, (out, in), float32 or float64.
        shrink: y → y · ρ (H + ρI)⁻¹, or its two-sided form.
        pattern: where zeros may fall.
        density: kept share, strictly between 0 and 1.
        iterations: at most.
        tolerance: share of the kept weights below which a change of the mask ends the iterations.

    Returns:
        x (out, in), its exact mask, the number of iterations, and the share of kept weights that
        the last one changed.
    """
    kept = max(1.0, density * weight.numel())
    point, before = weight, None
    moved, done, least = 1.0, 0, LEAST[pattern.block != (1, 1)]
    for done in range(1, iterations + 1):
        mask = pattern.nearly_top(point.abs(), density)
        if before is not None:
            # A swap changes two entries of the mask.
            moved = int((mask ^ before).count_nonzero()) / 2 / kept
        multipliers = point.masked_fill(mask, 0.0)
        gap = (weight - point).add_(multipliers, alpha=2.0)
        point = multipliers.add_(weight).sub_(shrink(gap))
        if done >= least and moved < tolerance:
            break
        before = mask
    return point, pattern.top(point.abs(), density), done, moved


def deviations(curvature: torch.Tensor, height: int) -> torch.Tensor:
    """Square roots of the conditional curvature of outputs given all outside of their block.

    Args:
        curvature: G, (out, out), positive definite.
        height: rows of a block; 0 for all.

    Returns:
        (out,): 1 / √[G⁻¹]_ii for single rows, √G_ii where all rows go together.
    """
    step = height or len(curvature)
    if step == len(curvature):
        return curvature.diagonal().sqrt()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    blocks = inverse.unflatten(0, (-1, step)).unflatten(2, (-1, step))
    blocks = blocks.diagonal(dim1=0, dim2=2).movedim(-1, 0)  # (out / step, step, step)
    return torch.linalg.inv(blocks).diagonal(dim1=1, dim2=2).flatten().sqrt()


def shrinking(
    hessian: torch.Tensor, curvature: torch.Tensor | None, penalty: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The step of `iterate` that the objective makes.

    Args:
        hessian: H, (in, in), positive definite.
        curvature: G, (out, out), positive definite; None for the identity.
        penalty: ρ.
    """
    if curvature is None:
        resolvent = _resolvent(hessian, penalty)
        return lambda gap: gap @ resolvent
    inputs, right = torch.linalg.eigh(hessian)
    outputs, left = torch.linalg.eigh(curvature)
    share = penalty / (outputs.clamp_min(0)[:, None] * inputs.clamp_min(0) + penalty)
    return lambda gap: left @ (left.T @ gap @ right).mul_(share) @ right.T


def _resolvent(hessian: torch.Tensor, penalty: float) -> torch.Tensor:
    """ρ (H + ρI)⁻¹, (in, in)."""
    damped = hessian.clone()
    damped.diagonal().add_(penalty)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).mul_(penalty)
