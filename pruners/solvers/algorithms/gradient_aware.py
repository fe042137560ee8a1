"""Gradient-aware pruning: Wanda's score, and what the loss says of every weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.solvers.algorithms.wanda import Scored, by_score
from pruners.solvers.base import Solution, solver
from pruners.solvers.zeros import MaskPattern

SCALE = 100.0


@solver("gradient-aware")
class GradientAware:
    r"""Keep the largest |w_ij|·(‖x_j‖₂ + scale · √Σ_s g_ij²(s)), g(s) = ∂L_s/∂w (Das et al. 2023).

    The score of the GBLM pruner. Its two terms have different units: `scale` weighs gradients of a
    sample's mean loss against the root mean square of an input. The kept weights do not change.
    The paper compares inside each output row: pattern "row".

    Args:
        scale: weight of the gradient term.
    """

    masked, factored = True, False
    needs: frozenset[str] = frozenset({"norms", "gradients"})

    def __init__(self, scale: float = SCALE) -> None:
        self.scale = scale

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> Scored:
        """Scores in float32 or wider."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        worth = self.scale * statistics["gradients"].to(wide) + statistics["norms"].to(wide)
        return Scored(matrix, worth.mul_(matrix.to(wide).abs()))

    def solve(self, state: Scored, density: float | None, pattern: MaskPattern) -> Solution:
        """Mask by the scores; `statistics["error"]` is Σ pruned score² / Σ score²."""
        return by_score(state, density, pattern, "magnitude times input norm and gradient")
