"""A data set: three splits and the task they pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.split import Batch, Split
from training.data.tasks import Task


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: three disjoint splits and the task they pose.

    Args:
        name: registered name.
        train: what parameters are fitted and networks are calibrated on.
        validation: a fixed part of the training data, for every choice (checkpoints, budgets).
        test: for final figures only.
        task: loss, metrics, example inputs.
        shape: of one model input, (C, H, W) or (T,).
        outputs: number of classes or size of the vocabulary.
        fingerprint: sha256 of the content of the three splits.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    task: Task
    shape: tuple[int, ...]
    outputs: int
    fingerprint: str

    def split(self, name: str) -> Split:
        """Return `train`, `validation` or `test` by name.

        Raises:
            ValueError: for another name.
        """
        if name not in ("train", "validation", "test"):
            raise ValueError(f"split must be train, validation or test (got {name!r})")
        return getattr(self, name)

    def calibration(self, count: int, batch_size: int = 128, seed: int = 0) -> list[Batch]:
        """Return `count` training examples, chosen by `seed`, not augmented, in batches."""
        generator = torch.Generator().manual_seed(seed)
        return list(self.train.take(count, generator).batches(batch_size))

    def example_inputs(self, batch_size: int = 2) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Return what `graphs.trace` needs beside the model: the first training examples."""
        return self.task.example_inputs(self.train.batch(torch.arange(batch_size)))
