"""Recovery method "distil": the pruned network learns from the dense one alone, without labels."""

from __future__ import annotations

from typing import Any, ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from training.recovery.finetune import FinetuneConfig
from training.recovery.methods.finetune import run_training


@recovery("distil")
class Distil:
    """Finetune with the teacher's part of the loss alone (Hinton et al., arXiv 1503.02531, eq. 1).

    Args:
        options: see `training.recovery.finetune.FinetuneConfig.parse`; `distillation` is 1 here.

    Raises:
        ValueError: an unknown setting, or one that makes no sense.
    """

    name: ClassVar[str] = "distil"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes", "weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"data", "teacher"})

    def __init__(self, **options: Any) -> None:
        self.config = FinetuneConfig.parse({"distillation": 1.0, **options}, "recovery.distil")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        run_training(pruning, self.config, "Distilled")
