"""Magnitude pruning: the largest weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.solvers.base import Solution, solver
from pruners.solvers.zeros import MaskPattern


@solver("magnitude")
class Magnitude:
    """Keep the largest |w| that the pattern and the budget allow (Han et al. 2015)."""

    masked, factored = True, False
    needs: frozenset[str] = frozenset()

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Nothing to prepare: the state is the matrix."""
        return matrix

    def solve(self, state: torch.Tensor, density: float | None, pattern: MaskPattern) -> Solution:
        """Mask by |w|; `statistics["error"]` is ‖W − W'‖² / ‖W‖²."""
        magnitude = state.abs().to(torch.promote_types(state.dtype, torch.float32))
        mask = pattern.top(magnitude, density)
        energy = magnitude.square()
        lost = (energy.masked_fill(mask, 0.0).sum() / energy.sum().clamp_min(1e-38)).item()
        kept = int(mask.sum())
        return Solution(
            weight=state.masked_fill(~mask, 0.0),
            mask=mask,
            status=f"Kept the {kept} largest of {mask.numel()} weights ({pattern}).",
            statistics={"kept": kept, "error": lost},
        )
