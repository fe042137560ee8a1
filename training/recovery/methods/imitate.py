"""Recovery method "imitate": a few hundred steps towards the dense predictions, on calibration."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graphs.calls.running import undisturbed
from pruners.curves import Judge
from pruners.curves.trial import divergence, in_words, predictions
from pruners.recovery.base import Pruning, Stage, recovery
from training.config import from_mapping
from training.fitting.tracking import within
from training.recovery.descent import Descent, descend, divided
from training.recovery.masked import constraint_of


@recovery("imitate")
class Imitate:
    r"""All weights that stay, moved to where the predictions are closest to those of the teacher.

        min over W of mean KL(teacher || pruned)

    It needs no labels and no data set: it learns from the calibration alone, in evaluation mode,
    and keeps the weights that were best on examples left out, so it never ends worse on these.

    Args:
        options: see `training.recovery.descent.Descent`.

    Raises:
        ValueError: an unknown setting, or one that makes no sense.
    """

    name: ClassVar[str] = "imitate"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes", "weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches", "teacher"})

    def __init__(self, **options: Any) -> None:
        self.settings = from_mapping(Descent, options, "recovery.imitate")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        assert pruning.pruned is not None
        assert pruning.teacher is not None
        model, teacher, settings = pruning.pruned, pruning.teacher, self.settings
        pieces, judging = divided(pruning.batches, settings)
        judge, restore = Judge(teacher, judging), constraint_of(model, pruning.masks)
        with within("imitate"), undisturbed(model), undisturbed(teacher), torch.enable_grad():
            parameters = {
                name: parameter.requires_grad_()
                for name, parameter in model.named_parameters()
                if parameter.is_floating_point()
            }
            before, after = descend(
                parameters,
                pieces,
                lambda batch: imitation_loss(teacher, model, batch),
                lambda: judge(model),
                settings,
                lambda: restore(model),
            )
        for parameter in parameters.values():
            parameter.grad = None
        pruning.notes.append(
            f"Imitated the dense predictions for {settings.steps} steps; divergence on examples "
            f"left out {in_words(before)} before, {in_words(after)} after."
        )


def imitation_loss(teacher: nn.Module, model: nn.Module, batch: Any) -> Tensor:
    """KL(teacher || model) in nats, the mean over the predictions of a batch that count.

    Args:
        teacher: learns nothing.
        model: whose graph is kept.
        batch: inputs.
    """
    with torch.no_grad():
        wanted, weight = predictions(teacher, batch)
    found, _ = predictions(model, batch)
    return (divergence(wanted, found) * weight).sum() / weight.sum().clamp_min(1)
