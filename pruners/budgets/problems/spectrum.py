"""The nested low-rank approximations of one weight, and what each of them catches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.solvers.algorithms.low_rank import LowRank
from pruners.solvers.matrix import Rows, as_matrix, from_matrix


@dataclass(frozen=True)
class Spectrum:
    r"""L_r = Σ_{k ≤ r} u_k u_kᵀ W for r = 1 to R, and W itself as level R + 1.

    The u are the principal directions of the layer's outputs
    (`pruners.solvers.algorithms.low_rank`). Beyond R = ⌊m·n / (m + n)⌋ two factors would store more
    numbers than the matrix.

    Args:
        weight: of any shape.
        side: its output dimension.
        left: u, (m, R).
        right: uᵀ W, (R, n).
        energy: share of ‖WX‖² along each direction, (R,), never rising.
    """

    weight: torch.Tensor
    side: Rows
    left: torch.Tensor
    right: torch.Tensor
    energy: torch.Tensor

    @classmethod
    def of(
        cls, weight: torch.Tensor, side: Rows, statistics: Mapping[str, torch.Tensor] | None
    ) -> Spectrum:
        """Decompose a weight once.

        Args:
            weight: two dimensions or more.
            side: its output dimension.
            statistics: `hessian` and `samples` of its inputs, and `curvature` of its outputs; None
                for uncorrelated ones.
        """
        matrix = as_matrix(weight.detach(), side)
        state = LowRank().prepare(matrix, statistics or {})
        assert state.directions is not None
        rows, columns = matrix.shape
        most = rows * columns // (rows + columns)
        left, right = state.factors(state.directions[:, :most])
        energy = state.energy.double() / state.energy.double().sum().clamp_min(1e-300)
        return cls(weight.detach(), side, left.contiguous(), right, energy[:most])

    @property
    def step(self) -> int:
        """Numbers that one rank stores: m + n."""
        return self.left.shape[0] + self.right.shape[1]

    @property
    def most(self) -> int:
        """R, the highest rank whose factors store no more numbers than the matrix."""
        return self.left.shape[1]

    def stored(self, level: int) -> int:
        """Numbers stored at a level."""
        return self.weight.numel() if level > self.most else level * self.step

    def value(self, level: int) -> torch.Tensor:
        """The weight at a level, in its shape and dtype."""
        if level > self.most:
            return self.weight
        low = self.left[:, :level] @ self.right[:level]
        return from_matrix(low, self.weight.shape, self.side).to(self.weight.dtype)

    def worth(self) -> torch.Tensor:
        r"""Share of ‖WX‖² that each level adds for a stored number, (R + 1,), never rising.

        These are the slopes of the concave majorant of what is caught over what is stored. The last
        ranks of a flat spectrum cost about as much as the dense matrix and catch less: they lie
        below it, and all levels from there on count as one step to the dense matrix.
        """
        each = self.energy / self.step
        caught = torch.cat([torch.zeros(1, dtype=each.dtype, device=each.device), self.energy])
        caught = caught.cumsum(0)
        ranks = torch.arange(len(caught), device=each.device)
        cost = (self.weight.numel() - self.step * ranks).double()
        slope = ((1 - caught).clamp_min(0) / cost).masked_fill(cost <= 0, torch.inf)
        leave = int(slope.argmin())
        jump = slope[leave].expand(self.most + 1 - leave)
        return torch.cat([each[:leave], jump]).cpu()

    def gain(self, gradient: torch.Tensor, level: int) -> float:
        r"""⟨∂L/∂W, L_{level + 1} − L_level⟩: how the loss changes with the next level, first order.

        Args:
            gradient: in the shape of the weight, taken at this level or a near one.
            level: 0 to R.
        """
        g = as_matrix(gradient, self.side).to(self.left)
        if level < self.most:
            return float(self.left[:, level] @ g @ self.right[level])
        rest = as_matrix(self.weight, self.side).to(self.left) - self.left @ self.right
        return float((g * rest).sum())
