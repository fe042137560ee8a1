"""Recovery method "order": weights are solved layer after layer, for what the pruned ones give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.solve_alone import check_needs, solve_alone
from pruners.recovery.solve_in_order import solve_in_order
from pruners.statistics import input_statistics

MOMENTS = frozenset(("hessian", "norms"))
"""Statistics that solving in order measures itself."""


@recovery("order")
@dataclass(frozen=True)
class Order:
    """Solve every weight for the dense outputs from the inputs that pruned layers before it give.

    Weights that a forward calls several times have no place in the order and are solved by
    themselves. Batch norms then describe their inputs (`pruners.recovery.solve_in_order`).
    """

    name: ClassVar[str] = "order"
    stage: ClassVar[Stage] = "solve"
    serves: ClassVar[frozenset[str]] = frozenset({"weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        net, asks = pruning.base, pruning.asks
        model = net.to_model()
        other = check_needs(pruning) - MOMENTS
        extra = input_statistics(model, pruning.batches, asks, other) if other else None
        found = solve_in_order(
            net, model, pruning.plan.solver, asks, pruning.batches, extra, pruning.held
        )
        pruning.solutions |= found.solutions
        pruning.values |= found.refit.values
        pruning.settled = bool(found.solutions)
        pruning.notes.append(found.status)
        alone = {n: why for n, why in found.refit.not_refitted.items() if n in asks}
        for reason, count in Counter(alone.values()).items():
            pruning.notes.append(f"Weights pruned by themselves: {count} ({reason}).")
        if not pruning.settled:
            pruning.notes.append("The kept weights were fitted to the outputs of the dense layers.")
        solve_alone(pruning, fitted=True)
