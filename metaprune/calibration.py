"""Calibration: a few batches, and what they mean to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from training.data.core import Data

Loss: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]


def itself(batch: Any) -> Any:
    """A batch that is the model's input already."""
    return batch


@dataclass(frozen=True)
class Calibration:
    """Batches that statistics are taken from.

    Args:
        batches: each what `inputs` and `loss` take.
        inputs: batch → arguments of the model: a tuple, a dict of keywords, or one tensor.
        loss: (model, batch) → scalar loss; None where there are no targets, and then nothing that
            needs a gradient is measured.
    """

    batches: Sequence[Any]
    inputs: Callable[[Any], Any] = itself
    loss: Loss | None = None

    @property
    def model_inputs(self) -> list[Any]:
        """The batches as arguments of the model."""
        return [self.inputs(batch) for batch in self.batches]

    @classmethod
    def of(cls, given: Calibration | Iterable[Any] | None) -> Calibration | None:
        """A calibration as it is, batches of model inputs wrapped; None stays None.

        Raises:
            ValueError: no batches.
        """
        if given is None or isinstance(given, Calibration):
            found = given
        else:
            found = cls(list(given))
        if found is not None and not found.batches:
            raise ValueError(
                "calibration needs at least one batch (got none); pass None to do without"
            )
        return found

    @classmethod
    def choose(
        cls, given: Calibration | Iterable[Any] | None, data: Data | None
    ) -> Calibration | None:
        """What is given, else batches of the data, else None."""
        found = cls.of(given)
        return cls.from_data(data) if found is None and data is not None else found

    @classmethod
    def from_data(
        cls, data: Data, examples: int = 512, batch_size: int = 128, seed: int = 0
    ) -> Calibration:
        """Training examples of a data set, with the loss of its task.

        Args:
            data: what to take them from.
            examples: how many.
            batch_size: examples a batch.
            seed: of the choice.
        """

        def loss(model: nn.Module, batch: Any) -> torch.Tensor:
            return data.task.loss(data.task.forward(model, batch), batch)

        return cls(data.calibration(examples, batch_size, seed), data.task.example_inputs, loss)
