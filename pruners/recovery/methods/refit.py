"""Recovery method "refit": layers behind removed units are fitted to what the dense ones give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.refit_in_order import refit_in_order
from pruners.recovery.regression import DAMPING
from pruners.recovery.support import on_support


@recovery("refit")
@dataclass(frozen=True)
class RefitInOrder:
    """Fit layers in order to the outputs of the dense ones (`pruners.recovery.refit_in_order`).

    Batch norms then describe their inputs, so that there is nothing left to recalibrate.

    Args:
        damping: of the regression; see `pruners.recovery.regression.fit`.
    """

    damping: float = DAMPING

    name: ClassVar[str] = "refit"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def __post_init__(self) -> None:
        if not self.damping >= 0:
            raise ValueError(f"recovery.refit.damping must be at least 0 (got {self.damping})")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        assert pruning.small is not None
        assert pruning.pruned is not None
        net = pruning.dense
        found = refit_in_order(
            net,
            net.to_model(),
            pruning.small,
            pruning.pruned,
            pruning.plan.keeps(net),
            pruning.batches,
            damping=self.damping,
            form=on_support(pruning.small, pruning.masks),
        )
        pruning.pruned.load_state_dict(found.values, strict=False)
        pruning.small = pruning.small.replace(found.values)
        pruning.notes.append(found.status)
        pruning.settled = True
