"""Recovery method "order": weights are solved layer after layer, for what the pruned ones give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.sides import check_sides, output_sides
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

    Args:
        sides: 2 for errors of outputs as the predictions feel them (`pruners.solvers.two_sided`), 1
            for the layer's own outputs.
        rounds: solutions, each from the dense weights, with the curvature of the network that the
            one before left.
    """

    sides: int = 2
    rounds: int = 2

    name: ClassVar[str] = "order"
    stage: ClassVar[Stage] = "solve"
    serves: ClassVar[frozenset[str]] = frozenset({"weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def __post_init__(self) -> None:
        check_sides(self.name, self.sides)
        if self.rounds < 1:
            raise ValueError(f"recovery.order.rounds must be at least 1 (got {self.rounds})")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        net, asks, batches = pruning.base, pruning.asks, pruning.batches
        model = net.to_model()
        other = check_needs(pruning) - MOMENTS
        extra = input_statistics(model, batches, asks, other) if other else {}
        solver, held, seen = pruning.plan.solver, pruning.held, model
        for _ in range(self.rounds if self.sides == 2 else 1):
            curved = output_sides(pruning, seen, asks) if self.sides == 2 else {}
            given = {name: {**extra.get(name, {}), **curved.get(name, {})} for name in asks}
            found = solve_in_order(net, model, solver, asks, batches, given, held)
            if not curved:
                break  # another round would find the same
            seen = net.replace(found.refit.values).to_model()
        pruning.solutions |= found.solutions
        pruning.values |= found.refit.values
        pruning.settled = bool(found.solutions)
        pruning.notes.append(found.status)
        alone = {n: why for n, why in found.refit.not_refitted.items() if n in asks}
        for reason, count in Counter(alone.values()).items():
            pruning.notes.append(f"Weights pruned by themselves: {count} ({reason}).")
        if not pruning.settled:
            pruning.notes.append("The kept weights were fitted to the outputs of the dense layers.")
        solve_alone(pruning, fitted=True, sides=self.sides)
