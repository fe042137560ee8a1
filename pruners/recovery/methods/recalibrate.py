"""Recovery method "recalibrate": statistics of batch norms are estimated anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.recalibration import recalibrate_batch_norm


@recovery("recalibrate")
@dataclass(frozen=True)
class Recalibrate:
    """Re-estimate the running statistics of batch norms (`pruners.recovery.recalibration`).

    Leaves them alone where a method before it has fitted the layers that they belong to.
    """

    name: ClassVar[str] = "recalibrate"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes", "weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        assert pruning.pruned is not None
        if not pruning.settled:
            found = recalibrate_batch_norm(pruning.pruned, pruning.batches)
            pruning.notes.append(found.status)
