"""SparseGPT: prune column by column, and let the columns to the right make up for it.

The original keeps U with H⁻¹ = UᵀU, and pushes the error of every column to all columns on its
right. With the triangular factor of H itself, H = MMᵀ (U = M⁻¹), nothing needs to be inverted: the
changes δ = w − w' of the columns that are done determine the next ones,

    s_j = Σ_{i<j} δ_i M_ij,     kept: w'_j = w_j + s_j / M_jj,     pruned: w'_j = 0,

with the same result. A block of columns fetches s by one matrix product when its turn comes, and
columns are stored as contiguous rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.base import Solution, solver
from pruners.solvers.patterns import Pattern, top_few

BLOCK = 128
DAMPING = 0.01
# Columns inside a block that fetch from each other one by one; more are fetched by a product.
INNER = 32
ESCALATIONS = 6


@dataclass(frozen=True)
class _Factored:
    """The matrix, its columns as rows in working precision, and the factor of the Hessian."""

    matrix: torch.Tensor
    columns: torch.Tensor  # (in, out)
    factor: torch.Tensor  # M, upper triangular, (in, in)
    dead: torch.Tensor  # bool, (in,)
    damping: float  # λ
    note: str


@solver("sparsegpt")
class SparseGPT:
    """One-shot second-order pruning (Frantar & Alistarh 2023, algorithm 1).

    A block of columns chooses its mask by w² / U_jj² when its turn comes, with the same share in
    every block; N:M chooses group by group. Inputs that are always zero are pruned first.

    Args:
        block: columns whose mask is chosen together.
        damping: share of the mean diagonal that is added to the diagonal of the Hessian.
    """

    needs: frozenset[str] = frozenset({"hessian"})

    def __init__(self, block: int = BLOCK, damping: float = DAMPING) -> None:
        self.block = block
        self.damping = damping

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> _Factored:
        """Factor the Hessian once for all budgets."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        hessian = statistics["hessian"].to(wide)
        dead = hessian.diagonal() <= 0
        columns = matrix.to(wide).T.contiguous()
        factor, damping, note = factored(hessian, dead, self.damping)
        columns[dead] = 0.0
        return _Factored(matrix, columns, factor, dead, damping, note)

    def solve(self, state: _Factored, density: float | None, pattern: Pattern) -> Solution:
        """Sweep over the columns; `statistics["loss"]` is (w − w')H(w − w')ᵀ over all rows."""
        refusal = pattern.refusal(*state.columns.shape)
        if refusal is not None:
            raise ValueError(refusal)
        share = pattern.density(density)
        columns, kept, damped, distance = sweep(
            state.columns, state.factor, pattern, share, self.block
        )
        # What an always-zero input is multiplied by does not matter; the original is as good.
        columns[state.dead] = kept[state.dead] * state.matrix.T[state.dead].to(columns.dtype)
        count = int(kept.sum())
        return Solution(
            weight=columns.T.to(state.matrix.dtype).contiguous(),
            mask=kept.T.contiguous(),
            status=f"Kept {count} of {kept.numel()} weights by second-order sweep ({pattern})."
            + state.note,
            statistics={"kept": count, "loss": max(0.0, damped - state.damping * distance)},
        )


def factored(
    hessian: torch.Tensor, dead: torch.Tensor, damping: float
) -> tuple[torch.Tensor, float, str]:
    """Upper triangular M with H + λI = MMᵀ.

    Args:
        hessian: (in, in), symmetric, positive semi-definite up to rounding.
        dead: bool, (in,): inputs that are always zero; their diagonal becomes 1.
        damping: λ over the mean of the diagonal, multiplied by ten until the factorisation exists;
            float64 is tried first each time.

    Returns:
        M in the dtype of `hessian`, λ (scalar), and a sentence (empty when nothing was unusual).

    Raises:
        ValueError: a Hessian that no sensible damping makes positive definite.
    """
    fill = dead.to(hessian.dtype).flip(0)
    mean = (hessian.diagonal().mean() + fill.mean()).item()
    for attempt in range(ESCALATIONS):
        amount = damping * 10**attempt
        damped = hessian.flip(0, 1)
        damped.diagonal().add_(fill).add_(amount * mean)
        for dtype in dict.fromkeys((hessian.dtype, torch.float64)):
            lower, failed = torch.linalg.cholesky_ex(damped.to(dtype))
            if not failed:
                note = f" The Hessian was damped by {amount:g} of its mean." if attempt else ""
                return lower.flip(0, 1).to(hessian.dtype), amount * mean, note
    raise ValueError(
        f"the Hessian is not positive definite even when damped by {amount:g} of its mean "
        "diagonal; collect it again, from more or saner calibration data"
    )


def sweep(
    columns: torch.Tensor,
    factor: torch.Tensor,
    pattern: Pattern,
    density: float,
    block: int,
) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Prune columns from left to right.

    Args:
        columns: w, (in, out).
        factor: M, (in, in), upper triangular.
        pattern: where zeros may fall.
        density: kept share.
        block: columns whose mask is chosen together; rounded to whole groups or blocks.

    Returns:
        w' (in, out), the bool mask (in, out), true where kept, the loss
        (w − w')(H + λI)(w − w')ᵀ and the squared distance ‖w − w'‖², summed over all rows.
    """
    width = columns.shape[0]
    result, change = torch.empty_like(columns), torch.empty_like(columns)
    mask = torch.empty_like(columns, dtype=torch.bool)
    group = pattern.m or pattern.block[1]
    steps = tuple(dict.fromkeys((max(group, INNER // group * group), group)))
    block = min(max(group, block // group * group), width)
    errors = torch.empty_like(columns[:block])
    loss = distance = 0.0
    for first in range(0, width, block):
        last = min(first + block, width)
        eye = torch.eye(last - first, dtype=columns.dtype, device=columns.device)
        u = torch.linalg.solve_triangular(factor[first:last, first:last], eye, upper=True)
        fetched = factor[:first, first:last].T @ change[:first]  # (block, out)
        part, kept = result[first:last], mask[first:last]
        torch.addmm(columns[first:last], u.T, fetched, out=part)
        if not pattern.m:
            kept.copy_(_choose(part, u.diagonal(), pattern, density, first))
        _descend(part, errors[: last - first], u, kept, steps, pattern)
        part.mul_(kept)
        torch.sub(columns[first:last], part, out=change[first:last])
        loss += _energy(errors[: last - first])
        distance += _energy(change[first:last])
    return result, mask, loss, distance


def _energy(values: torch.Tensor) -> float:
    """Sum of squares of a contiguous tensor, without a temporary."""
    flat = values.view(-1)
    return torch.dot(flat, flat).item()


def _descend(
    part: torch.Tensor,
    errors: torch.Tensor,
    u: torch.Tensor,
    kept: torch.Tensor,
    steps: tuple[int, ...],
    pattern: Pattern,
) -> None:
    """Columns in order, in ever smaller steps; a step fetches from those before by one product.

    Args:
        part: current weights of the columns, (columns, out), updated in place.
        errors: e_j, (columns, out), written.
        u: their part of U, (columns, columns).
        kept: mask, (columns, out); written group by group for N:M.
        steps: numbers of columns; at the last one, columns follow each other one by one.
        pattern: where zeros may fall.
    """
    for a in range(0, part.shape[0], steps[0]):
        b = min(a + steps[0], part.shape[0])
        if a:
            part[a:b].addmm_(u[:a, a:b].T, errors[:a], alpha=-1)
        if steps[0] == pattern.m:
            kept[a:b] = top_few((part[a:b] / u.diagonal()[a:b, None]).abs_(), pattern.n)
        inside = (part[a:b], errors[a:b], u[a:b, a:b], kept[a:b])
        if steps[1:] and steps[1] > 1:
            _descend(*inside, steps[1:], pattern)
        else:
            _one_by_one(*inside)


def _one_by_one(
    part: torch.Tensor, errors: torch.Tensor, u: torch.Tensor, kept: torch.Tensor
) -> None:
    """A few columns in order: fetch from those before, then leave one's own error; in place."""
    scale = (~kept).to(part.dtype).div_(u.diagonal()[:, None])
    rows, own, gone = part.unbind(), errors.unbind(), scale.unbind()
    for j in range(len(rows)):
        if j:
            rows[j].addmv_(errors[:j].T, u[:j, j], alpha=-1)
        torch.mul(rows[j], gone[j], out=own[j])


def _choose(
    part: torch.Tensor,
    diagonal: torch.Tensor,
    pattern: Pattern,
    density: float,
    first: int,
) -> torch.Tensor:
    """Mask of a block by |w| / U_jj; numbers round so that the whole matrix is exact."""
    scores = (part / diagonal[:, None]).abs_().T.contiguous()
    rows, width = scores.shape
    until, now = (pattern.candidates(rows, columns) for columns in (first, first + width))
    return pattern.choose(scores, round(density * now) - round(density * until)).T
