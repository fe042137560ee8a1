"""Recovery method "finetune": a few epochs on the labels, with the dense network as a teacher."""

from __future__ import annotations

from typing import Any, ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from training.recovery.finetune import FinetuneConfig, finetune


@recovery("finetune")
class Finetune:
    """Finetune the pruned module; masks stay exact, the best weights on validation are kept.

    Args:
        options: see `training.recovery.finetune.FinetuneConfig.parse`.

    Raises:
        ValueError: an unknown setting, or one that makes no sense.
    """

    name: ClassVar[str] = "finetune"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes", "weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"data"})

    def __init__(self, **options: Any) -> None:
        self.config = FinetuneConfig.parse(options, "recovery.finetune")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        run_training(pruning, self.config, "Finetuned")


def run_training(pruning: Pruning, config: FinetuneConfig, done: str) -> None:
    """Train the pruned module in place, and say so.

    Args:
        pruning: its module is changed; checkpoints go to its folder.
        config: settings.
        done: what the note calls it.
    """
    assert pruning.pruned is not None
    data = pruning.data
    run = finetune(
        pruning.pruned,
        data,
        config,
        masks=pruning.masks,
        teacher=pruning.teacher,
        folder=pruning.folder,
    )
    score = data.task.score
    figure = f"{score} {run.best[score]:.4g} on validation"
    pruning.notes.append(f"{done} for {run.steps} steps; {figure}.")
