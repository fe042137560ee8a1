"""Wanda: weights by their magnitude times the norm of their input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.base import Solution, solver
from pruners.solvers.zeros import MaskPattern


@dataclass(frozen=True)
class Scored:
    """A matrix and what each of its weights is worth, both (out, in)."""

    matrix: torch.Tensor
    scores: torch.Tensor


def by_score(state: Scored, density: float | None, pattern: MaskPattern, reason: str) -> Solution:
    """The weights of the highest scores, as they were; `reason` says what the scores are."""
    mask = pattern.top(state.scores, density)
    energy = state.scores.square()
    lost = energy.masked_fill(mask, 0.0).sum() / energy.sum().clamp_min(1e-30)
    kept = int(mask.sum())
    return Solution(
        weight=state.matrix.masked_fill(~mask, 0.0),
        mask=mask,
        status=f"Kept {kept} of {mask.numel()} weights by {reason} ({pattern}).",
        statistics={"kept": kept, "error": lost.item()},
    )


@solver("wanda")
class Wanda:
    """Keep the largest |w_ij|·‖x_j‖₂ (Sun et al. 2024, eq. 1); the kept weights do not change.

    The paper compares inside each output row: pattern "row". "unstructured" compares over the
    whole matrix.
    """

    masked, factored = True, False
    needs: frozenset[str] = frozenset({"norms"})

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> Scored:
        """Scores in float32 or wider."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        return Scored(matrix, matrix.to(wide).abs() * statistics["norms"].to(wide))

    def solve(self, state: Scored, density: float | None, pattern: MaskPattern) -> Solution:
        """Mask by the scores; `statistics["error"]` is Σ pruned score² / Σ score²."""
        return by_score(state, density, pattern, "magnitude times input norm")
