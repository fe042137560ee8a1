"""training.recovery.distilled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.calls.running import evaluation
from training.data.tasks import IGNORED, Batch, Task


def distillation_loss(
    outputs: Tensor, teacher_outputs: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """Return T^2 * KL(teacher || student), the mean over positions with a target, in nats.

    Args:
        outputs, teacher_outputs: (..., classes) logits.
        targets: (...) int64; positions that are `IGNORED` do not count.
        temperature: T.
    """
    counted = targets.flatten() != IGNORED
    student, dense = (
        F.log_softmax(logits.float().flatten(0, -2)[counted] / temperature, dim=-1)
        for logits in (outputs, teacher_outputs)
    )
    return temperature**2 * F.kl_div(student, dense, reduction="batchmean", log_target=True)


def _distilled(
    teacher: nn.Module, task: Task, weight: float, temperature: float
) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        outputs = task.forward(model, batch)
        with torch.no_grad(), evaluation(teacher):
            imitated = task.forward(teacher.to(batch[0].device), batch)
        kl = distillation_loss(outputs, imitated, batch[1], temperature)
        return (1 - weight) * task.loss(outputs, batch) + weight * kl

    return loss
