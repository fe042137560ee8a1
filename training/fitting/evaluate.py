"""Figures of a model on a split, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphs.calls.running import evaluation
from training.data.core import Data
from training.data.split import Split, to_device
from training.data.tasks import Task


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter or buffer, the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def evaluate(
    model: nn.Module,
    data: Data,
    split: str = "test",
    *,
    batch_size: int = 256,
    limit: int | None = None,
) -> dict[str, float]:
    """Return the task's metrics on a split; the model, its mode included, stays as it was.

    Args:
        model: on any device.
        data: with the task.
        split: `train`, `validation` or `test`; choose on validation, report on test.
        batch_size: examples a forward pass.
        limit: use only the first examples.

    Returns:
        `accuracy` (in [0, 1]) and `loss` (nats), or `perplexity`, `loss` and `bits_per_byte`.
    """
    return evaluate_split(model, data.split(split).take(limit), data.task, batch_size=batch_size)


def evaluate_split(
    model: nn.Module, split: Split, task: Task, *, batch_size: int = 256
) -> dict[str, float]:
    """Return the task's metrics on the examples of a split; see `evaluate`."""
    return measured(model, split, task, batch_size=batch_size).metrics


@dataclass(frozen=True)
class Measured:
    """Figures of a model on a split, and what they are made of.

    Args:
        metrics: name → figure.
        outcomes: (N, 2) float64, what each example adds to the score (`Task.outcomes`).
    """

    metrics: dict[str, float]
    outcomes: Tensor


@torch.no_grad()
def measured(model: nn.Module, split: Split, task: Task, *, batch_size: int = 256) -> Measured:
    """Return the task's metrics on the examples of a split, and each example's part in the score.

    Args:
        model: on any device; it stays as it was, its mode included.
        split: of at least one example.
        task: what is measured.
        batch_size: examples a forward pass.
    """
    metrics, outcomes = task.metrics(split), []
    device = device_of(model)
    with evaluation(model):
        for batch in split.batches(batch_size):
            batch = to_device(batch, device)
            outputs = task.forward(model, batch)
            metrics.update(outputs, batch)
            outcomes.append(task.outcomes(outputs, batch))
    return Measured(metrics.compute(), torch.cat(outcomes) if outcomes else torch.zeros(0, 2))
