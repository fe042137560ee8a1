"""Recovery method "layer": every weight is fitted to its own outputs on dense inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.sides import check_sides
from pruners.recovery.solve_alone import solve_alone


@recovery("layer")
@dataclass(frozen=True)
class Layer:
    """Solve every weight for itself, its kept numbers fitted to the dense outputs of its layer.

    Args:
        sides: see `pruners.recovery.methods.order.Order`.
    """

    sides: int = 2

    name: ClassVar[str] = "layer"
    stage: ClassVar[Stage] = "solve"
    serves: ClassVar[frozenset[str]] = frozenset({"weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def __post_init__(self) -> None:
        check_sides(self.name, self.sides)

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        solve_alone(pruning, fitted=True, sides=self.sides)
        pruning.notes.append("The kept weights were fitted to the outputs of the dense layers.")
