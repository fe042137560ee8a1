"""SparseGPT: prune column by column, and let the columns to the right make up for it.

The original keeps U with H⁻¹ = UᵀU, and pushes the error of every column to all columns on its
right. With the triangular factor of H itself, H = MMᵀ (U = M⁻¹), nothing needs to be inverted: the
changes δ = w − w' of the columns that are done determine the next ones,

    s_j = Σ_{i<j} δ_i M_ij,     kept: w'_j = w_j + s_j / M_jj,     pruned: w'_j = 0,

with the same result. A block of columns fetches s by one matrix product when its turn comes, and
columns are stored as contiguous rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.base import Solution, solver
from pruners.solvers.matrix import narrowed
from pruners.solvers.selection import top_of_columns
from pruners.solvers.zeros import MaskPattern

BLOCK = 128
DAMPING = 0.01
# Columns inside a block that fetch from those before by one product, and those that do one by one.
INNER, FEW = 32, 4
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

    masked, factored = True, False
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

    def solve(self, state: _Factored, density: float | None, pattern: MaskPattern) -> Solution:
        """Sweep over the columns; `statistics["loss"]` is (w − w')H(w − w')ᵀ over all rows."""
        pattern.insist(*state.matrix.shape)
        share = pattern.density(density)
        columns, kept, damped, distance = sweep(
            state.columns, state.factor, pattern, share, self.block
        )
        # What an always-zero input is multiplied by does not matter; the original is as good.
        columns[state.dead] = kept[state.dead] * state.matrix.T[state.dead].to(columns.dtype)
        count = int(kept.sum())
        return Solution(
            weight=narrowed(columns.T, state.matrix.dtype).contiguous(),
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
    pattern: MaskPattern,
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
    block = min(max(group, block // group * group), width)
    # Groups of N:M are chosen one at a time, and large ones cut once more.
    steps = [max(group, INNER // group * group)]
    for size in (pattern.m, FEW):
        if 0 < size < steps[-1]:
            steps.append(size)
    top = top_of_columns(pattern.m, columns.device)
    buffers = columns.new_empty(2, block, columns.shape[1])
    loss = distance = 0.0
    for first in range(0, width, block):
        last = min(first + block, width)
        eye = torch.eye(last - first, dtype=columns.dtype, device=columns.device)
        u = torch.linalg.solve_triangular(factor[first:last, first:last], eye, upper=True)
        fetched = factor[:first, first:last].T @ change[:first]  # (block, out)
        part = result[first:last]
        torch.addmm(columns[first:last], u.T, fetched, out=part)
        gone, errors = buffers[:, : last - first].unbind()
        turn = _Block(part, gone, errors, u, pattern, top)
        if not pattern.m:
            kept = _choose(part, u.diagonal(), pattern, density, first)
            torch.logical_not(kept, out=gone)
        turn.descend(0, last - first, steps)
        part.sub_(errors)
        torch.eq(gone, 0.0, out=mask[first:last])
        torch.sub(columns[first:last], part, out=change[first:last])
        loss += _energy(errors.mul_(turn.strength))
        distance += _energy(change[first:last])
    return result, mask, loss, distance


def _energy(values: torch.Tensor) -> float:
    """Sum of squares of a contiguous tensor, without a temporary."""
    flat = values.view(-1)
    return torch.dot(flat, flat).item()


class _Block:
    """Columns in order, in ever smaller steps; a step fetches from those before by one product.

    Args:
        part: current weights of the columns, (columns, out), updated in place: what goes is still
            there.
        gone, errors: of the same shape, written: 1 where a weight goes, and that weight.
        u: their part of U, (columns, columns).
        pattern: where zeros may fall; N:M chooses `gone` group by group.
        top: chooses the columns of a group (`pruners.solvers.selection.top_of_columns`).
    """

    def __init__(
        self,
        part: torch.Tensor,
        gone: torch.Tensor,
        errors: torch.Tensor,
        u: torch.Tensor,
        pattern: MaskPattern,
        top: Callable[[torch.Tensor, int], torch.Tensor],
    ) -> None:
        self.part, self.gone, self.errors = part, gone, errors
        self.pattern, self.top = pattern, top
        self.strength = u.diagonal().reciprocal()[:, None]
        # What a column that goes costs each later one.
        self.ahead = u * self.strength
        self._rows, self._gone, self._own = part.unbind(), gone.unbind(), errors.unbind()
        self._bands = [self.ahead.diagonal(k).tolist() for k in range(min(FEW, len(part)))]

    def descend(self, first: int, last: int, steps: list[int]) -> None:
        """From column to column; nothing before `first` is left to be fetched."""
        step, *finer = steps
        for a in range(first, last, step):
            b = min(a + step, last)
            part = self.part[a:b]
            if a > first:
                part.addmm_(self.ahead[first:a, a:b].T, self.errors[first:a], alpha=-1)
            if step == self.pattern.m:
                scores = (part * self.strength[a:b]).abs_()
                torch.logical_not(self.top(scores, self.pattern.n), out=self.gone[a:b])
            if finer:
                self.descend(a, b, finer)
            else:
                self._one_by_one(a, b)

    def _one_by_one(self, first: int, last: int) -> None:
        """A few columns: fetch from those before, then leave one's own error."""
        for j in range(first, last):
            for i in range(first, j):
                self._rows[j].add_(self._own[i], alpha=-self._bands[j - i][i])
            torch.mul(self._rows[j], self._gone[j], out=self._own[j])


def _choose(
    part: torch.Tensor,
    diagonal: torch.Tensor,
    pattern: MaskPattern,
    density: float,
    first: int,
) -> torch.Tensor:
    """Mask of a block by |w| / U_jj; numbers round so that the whole matrix is exact."""
    scores = (part / diagonal[:, None]).abs_().T.contiguous()
    rows, width = scores.shape
    until, now = (pattern.levels(rows, columns) for columns in (first, first + width))
    return pattern.choose(scores, round(density * now) - round(density * until)).T
