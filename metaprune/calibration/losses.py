"""The loss that fits what a model returns and what the labels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.calls.diagnosis import described
from graphs.calls.running import quiet_evaluation, run
from metaprune.calibration.batches import Loss
from metaprune.calibration.reading import Batch, Forward
from training.data.tasks import logits

OWN = "the model's own"

Found = tuple[Loss | None, str]
"""A loss and its name; or None and why there is none."""


def loss_of(model: nn.Module, batches: Sequence[Batch]) -> Found:
    """The loss of batches; told from the first, and all others must have such labels.

    A forward that takes `labels` and returns a `loss` is asked for it. Else whole numbers are
    classes (cross-entropy), zeros and ones of the outputs' shape are yes and no (binary
    cross-entropy), and other numbers of that shape are values (squared error).

    Raises:
        ValueError: labels that hold NaN or infinity, or are others than those of the first batch;
            names the batch.
    """
    batch, labels = batches[0], batches[0].labels
    _check_finite(batches)
    if labels is None:
        return None, "no labels"
    if "labels" in Forward.of(model).names and isinstance(batch.inputs, dict):
        return _own, OWN
    with quiet_evaluation(model), torch.no_grad():
        try:
            outputs = logits(run(model, batch.inputs))
        except TypeError as error:
            return None, str(error)
    for name, fits, loss in _LOSSES:
        if fits(outputs, labels):
            _check_alike(batches, outputs, name)
            return _of(loss), name
    shapes = f"outputs {tuple(outputs.shape)} and labels {tuple(labels.shape)} of {labels.dtype}"
    return None, f"no loss is known for {shapes.replace('torch.', '')}"


def _check_finite(batches: Sequence[Batch]) -> None:
    for number, batch in enumerate(batches, start=1):
        labels = batch.labels
        if labels is not None and labels.is_floating_point() and not labels.isfinite().all():
            raise ValueError(
                f"batch {number} of the calibration is not finite: its labels hold NaN or "
                "infinity; leave such examples out"
            )


def _check_alike(batches: Sequence[Batch], outputs: Tensor, name: str) -> None:
    """Refuse labels that the loss of the first batch cannot take."""
    first = batches[0].labels
    assert first is not None
    for number, batch in enumerate(batches, start=1):
        labels = batch.labels
        assert labels is not None
        alike = (
            labels.ndim == first.ndim and labels.is_floating_point() == first.is_floating_point()
        )
        if name == "cross-entropy":
            sizes = (outputs.shape[-1], outputs.shape[1])
            alike = alike and any(_classes(labels, count) for count in sizes)
        if not alike:
            raise ValueError(
                f"the labels of batch {number} of the calibration ({described(labels)}) are not "
                f"like those of the first ({described(first)}), whose loss is {name}"
            )


def _own(model: nn.Module, batch: Batch) -> Tensor:
    return model(**batch.inputs, labels=batch.labels).loss


def _of(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    def found(model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return loss(logits(run(model, batch.inputs)).float(), batch.labels)

    return found


def _classes_in_the_middle(outputs: Tensor, labels: Tensor) -> bool:
    """Outputs (B, C, ...), labels (B, ...)."""
    shapes = outputs.ndim == labels.ndim + 1 and _without(outputs, 1) == labels.shape
    return shapes and _classes(labels, outputs.shape[1])


def _classes_at_the_end(outputs: Tensor, labels: Tensor) -> bool:
    """Outputs (B, ..., C), labels (B, ...)."""
    return outputs.shape[:-1] == labels.shape and _classes(labels, outputs.shape[-1])


def _yes_or_no(outputs: Tensor, labels: Tensor) -> bool:
    return _same(outputs, labels) and bool(((labels == 0) | (labels == 1)).all())


def _same(outputs: Tensor, labels: Tensor) -> bool:
    return outputs.squeeze(-1).shape == labels.squeeze(-1).shape


def _classes(labels: Tensor, count: int) -> bool:
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    return whole and count > 1 and (not labels.numel() or int(labels.max()) < count)


def _without(outputs: Tensor, dim: int) -> torch.Size:
    return torch.Size([*outputs.shape[:dim], *outputs.shape[dim + 1 :]])


def _as_values(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, labels: loss(outputs.squeeze(-1), labels.squeeze(-1).to(outputs))


_LOSSES: tuple[tuple[str, Callable[[Tensor, Tensor], bool], Any], ...] = (
    (
        "cross-entropy",
        _classes_in_the_middle,
        lambda outputs, labels: F.cross_entropy(outputs, labels.long()),
    ),
    (
        "cross-entropy",
        _classes_at_the_end,
        lambda outputs, labels: F.cross_entropy(outputs.flatten(0, -2), labels.long().flatten()),
    ),
    ("binary cross-entropy", _yes_or_no, _as_values(F.binary_cross_entropy_with_logits)),
    ("squared error", _same, _as_values(F.mse_loss)),
)
