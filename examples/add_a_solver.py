"""Add a solver.

A solver chooses the mask of one matrix, and what its weights become. Yours is a class with two
methods and a decorator; budgets, patterns, convolutions, plans, saving and the command line
(`--import my_solver`) know it from then on. Rules, patterns, recovery methods and the rest are
[added the same way](../architecture.md#where-a-new-thing-goes).

    python examples/add_a_solver.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import metaprune
from pruners.solvers import MaskPattern, Solution, solver

# %% The solver
# `prepare` does what does not depend on the target, once; `solve` is asked for every density.
# `needs` names the statistics of the inputs that are measured for it.


@solver("largest-outputs")
class LargestOutputs:
    """Keep the weights whose products |w_ij| · ‖x_j‖ are largest (Wanda; Sun et al. 2023)."""

    masked, factored = True, False
    needs = frozenset({"norms"})

    def prepare(self, matrix: Tensor, statistics: Mapping[str, Tensor]) -> Any:
        """Scores of all weights, (out, in)."""
        return matrix, matrix.abs().float() * statistics["norms"].float()

    def solve(self, state: Any, density: float | None, pattern: MaskPattern) -> Solution:
        """The best of them, by the pattern."""
        matrix, scores = state
        mask = pattern.top(scores, density)
        kept = int(mask.sum())
        status = f"Kept {kept} of {mask.numel()} weights by their products ({pattern})."
        return Solution(matrix.masked_fill(~mask, 0.0), mask, status, {"kept": kept})


# %% Ask for it by its name
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
inputs = torch.randn(256, 32) * torch.linspace(0.1, 2, 32)
dense = model(inputs)
for name in ("magnitude", "largest-outputs"):
    result = metaprune.prune(
        model,
        (inputs,),
        pattern="unstructured",
        target={"sparsity": 0.6},
        solver=name,
        calibration=[(inputs,)],
        budget="uniform",
    )
    error = (result.model(inputs) - dense).pow(2).mean().item()
    print(f"{name}: mean squared error {error:.5f}")

# %% And hold it to the laws of solvers
# 2:4 takes the same scores; a mask of one row in four would, too.
half = metaprune.prune(
    model, (inputs,), pattern="2:4", solver="largest-outputs", calibration=[(inputs,)]
)
weight = half.model[0].weight
assert int((weight.reshape(-1, 4) != 0).sum(1).max()) <= 2
