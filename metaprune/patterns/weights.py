"""What all patterns share that change weights: solvers find masks and factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metaprune.patterns.base import run
from pruners.recovery.base import Pruning, Recovery
from pruners.recovery.solve_alone import solve_alone
from pruners.recovery.solve_in_order import Ask
from pruners.solvers.zeros import MaskPattern


def solve(
    pruning: Pruning,
    methods: Sequence[Recovery],
    mask: MaskPattern | None,
    *,
    factors: bool = False,
) -> None:
    """Find what the plan asks for: by the method of the list that does so, or by the solver alone.

    Args:
        pruning: its `asks`, `solutions` and `values` are filled in.
        methods: recovery methods.
        mask: where zeros may fall; None for factors alone.
        factors: whether the solver finds factors, beside the mask or alone.
    """
    plan = pruning.plan
    for name in dict.fromkeys((*plan.rank, *plan.density)):
        density, rank = plan.density.get(name), plan.rank.get(name)
        if mask is None or density is None:
            pruning.asks[name] = Ask(None, MaskPattern.parse("unstructured"), rank)
        else:
            beside = (rank or 0) if factors else None
            # Beside factors S is another weight; a mask alone stays part of the one before it.
            within = None if beside else pruning.held.get(name)
            pruning.asks[name] = Ask(density, mask.at(density), beside, within)
    if not run(methods, "solve", pruning):
        solve_alone(pruning, fitted=False)


def held_masks(pruning: Pruning) -> dict[str, torch.Tensor]:
    """Masks of earlier prunings whose weights this plan leaves alone."""
    return {name: mask for name, mask in pruning.held.items() if name not in pruning.asks}
