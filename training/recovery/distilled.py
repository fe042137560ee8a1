"""Distillation: a loss that asks a network to imitate a dense one.

(1 - a) * task loss + a * T^2 * KL(teacher || student) at temperature T, after Hinton et al. (arXiv
1503.02531), eq. 1 and section 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.calls.running import evaluation
from training.data.split import Batch
from training.data.tasks import IGNORED, Task
from training.fitting.run import LossFunction


def distillation_loss(
    outputs: Tensor, teacher_outputs: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """T^2 * KL(teacher || student), the mean over positions with a target, in nats.

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


def imitate(teacher: nn.Module, task: Task, weight: float, temperature: float) -> LossFunction:
    """The loss of this module's equation, as `training.fitting.fit` takes it.

    Args:
        teacher: its outputs are imitated; it is moved to the device of the batches, and learns
            nothing.
        task: of the data.
        weight: a, of the teacher's part, in [0, 1].
        temperature: T, at which both distributions are compared.

    Returns:
        (model, batch) -> scalar.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        outputs = task.forward(model, batch)
        with torch.no_grad(), evaluation(teacher):
            imitated = task.forward(teacher.to(batch[0].device), batch)
        kl = distillation_loss(outputs, imitated, batch[1], temperature)
        return (1 - weight) * task.loss(outputs, batch) + weight * kl

    return loss
