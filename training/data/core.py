"""Data as tensors in memory: splits that are indexed, never iterated item by item.

A `Split` holds all its inputs and targets as tensors, so a batch is one indexing operation and
the order of an epoch is one permutation drawn from an explicit generator. Every data set is a
decorated function, `@dataset("name")`, that returns `Data`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from training.data.tasks import Batch, Task

Prepare: TypeAlias = Callable[[Tensor], Tensor]
Augment: TypeAlias = Callable[[Tensor, Generator], Tensor]


def identity(inputs: Tensor) -> Tensor:
    """Return stored inputs unchanged: the preparation of data that is stored ready to use."""
    return inputs


@dataclass(frozen=True, eq=False)
class Split(torch.utils.data.Dataset):
    """Inputs and targets of one split, in memory.

    Args:
        inputs: (N, ...), as stored: uint8 images (N, H, W, C) or int64 token ids (N, T).
        targets: (N, ...) int64.
        prepare: stored inputs of a batch -> model inputs.
        augment: (stored inputs of a batch, generator) -> stored inputs, or None.
        bytes_per_token: length of the text in bytes over its number of tokens; None for images.
    """

    inputs: Tensor
    targets: Tensor
    prepare: Prepare = identity
    augment: Augment | None = None
    bytes_per_token: float | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        augmented = "" if self.augment is None else f", augmented by {self.augment}"
        return f"Split({len(self)} of {tuple(self.inputs.shape[1:])}{augmented})"

    def __getitem__(self, index: int) -> Batch:
        """Return one prepared, not augmented example, as `torch.utils.data` users expect."""
        inputs, targets = self.batch(torch.tensor([index]))
        return inputs[0], targets[0]

    def batch(self, index: Tensor, generator: Generator | None = None) -> Batch:
        """Return the examples at `index` (B,), augmented when a generator is given."""
        inputs = self.inputs[index]
        if self.augment is not None and generator is not None:
            inputs = self.augment(inputs, generator)
        return self.prepare(inputs), self.targets[index]

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the whole split in order, in batches of `size`, without augmentation."""
        for index in torch.arange(len(self)).split(size):
            yield self.batch(index)

    def epoch(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return the indices of one epoch in random order, in full batches.

        A split smaller than `size` is one batch; examples that do not fill a batch are left out
        of this epoch.
        """
        order = torch.randperm(len(self), generator=generator)
        full = max(1, len(self) // size)
        return order[: full * size].split(size)

    def take(self, count: int | None, generator: Generator | None = None) -> Split:
        """Return the first `count` examples, or a random choice when a generator is given."""
        if count is None or count >= len(self):
            return self
        order = torch.arange(len(self))
        if generator is not None:
            order = torch.randperm(len(self), generator=generator)
        return self.select(order[:count])

    def select(self, index: Tensor) -> Split:
        """Return the split that holds only the examples at `index`."""
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])


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


def hold_out(split: Split, count: int, seed: int = 0) -> tuple[Split, Split]:
    """Split training data into (train, validation), `count` examples in the latter.

    The choice depends on the seed only, so the two stay disjoint across runs; the validation
    part is never augmented.
    """
    if not 0 < count < len(split):
        raise ValueError(
            f"validation must hold between 1 and {len(split) - 1} of the {len(split)} training "
            f"examples (got {count})"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.select(order[count:]), replace(split.select(order[:count]), augment=None)


def fingerprint(splits: Iterable[Split]) -> str:
    """Return the sha256 of the stored inputs and targets of the splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for tensor in (split.inputs, split.targets):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


_REGISTRY: dict[str, Callable[..., Data]] = {}


def dataset(name: str) -> Callable[[Callable[..., Data]], Callable[..., Data]]:
    """Register a function `(**options) -> Data` under a name."""

    def register(function: Callable[..., Data]) -> Callable[..., Data]:
        if name in _REGISTRY:
            raise ValueError(f"data set {name!r} is registered twice")
        _REGISTRY[name] = function
        return function

    return register


def names() -> tuple[str, ...]:
    """Return the registered data sets, sorted."""
    return tuple(sorted(_REGISTRY))


def load(name: str, **options: object) -> Data:
    """Load a registered data set.

    Args:
        name: one of `names()`.
        options: of that data set; see its function.

    Raises:
        ValueError: for an unknown name, or an option that the data set does not have.
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(names())}")
    function = _REGISTRY[name]
    known = inspect.signature(function).parameters
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(
            f"data set {name!r} has no option {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(known) or 'none'}"
        )
    return function(**options)
