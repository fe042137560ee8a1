"""Masked least squares: another solver's mask, and the best weights on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pruners.solvers.base import Solution, Solver, build, solver
from pruners.solvers.damping import shrinkage
from pruners.solvers.repair import repair
from pruners.solvers.zeros import MaskPattern

STEPS = 100


@dataclass(frozen=True)
class _Masked:
    matrix: torch.Tensor
    hessian: torch.Tensor
    damping: float
    inner: Any


@solver("least-squares")
class LeastSquares:
    """The mask of another solver, and the weights on it that reproduce the outputs best.

    Solves min ‖(W − W')X‖² over the kept weights by conjugate gradients until a step gains next to
    nothing (Meng et al. 2024, "ALPS", §3.2).

    Args:
        mask: name of the solver that chooses the mask.
        steps: of conjugate gradients, at most.
        damping: share of its diagonal that is added to the Hessian; None: by the number of samples
            (`pruners.solvers.damping.shrinkage`).
        options: arguments of that solver's constructor.
    """

    masked, factored = True, False

    def __init__(
        self, mask: str = "wanda", steps: int = STEPS, damping: float | None = None, **options: Any
    ) -> None:
        self.base: Solver = build(mask, **options)
        self.steps = steps
        self.damping = damping
        self.needs = self.base.needs | {"hessian"}

    def prepare(self, matrix: torch.Tensor, statistics: Mapping[str, torch.Tensor]) -> _Masked:
        """What the choice of the mask prepares."""
        wide = torch.promote_types(matrix.dtype, torch.float32)
        hessian, share = statistics["hessian"].to(wide), self.damping
        if share is None:
            share = shrinkage(hessian, statistics.get("samples"))
        inner = self.base.prepare(matrix, statistics)
        return _Masked(matrix, hessian, share, inner)

    def solve(self, state: _Masked, density: float | None, pattern: MaskPattern) -> Solution:
        """Choose and refit; `statistics["error"]` is ‖(W − W')X‖² / ‖WX‖²."""
        found = self.base.solve(state.inner, density, pattern)
        return repair(state.matrix, found, state.hessian, self.steps, state.damping)
