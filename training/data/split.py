"""Examples as tensors in memory: splits that are indexed, never iterated item by item.

A `Split` holds all its inputs and targets as tensors, so a batch is one indexing operation and
the order of an epoch is one permutation drawn from an explicit generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Generator, Tensor

Batch: TypeAlias = tuple[Tensor, Tensor]
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
        """Return the first `count` examples, or a random choice when a generator is given.

        Raises:
            ValueError: a count below 0.
        """
        if count is not None and count < 0:
            raise ValueError(f"a number of examples must be at least 0 (got {count})")
        if count is None or count >= len(self):
            return self
        order = torch.arange(len(self))
        if generator is not None:
            order = torch.randperm(len(self), generator=generator)
        return self.select(order[:count])

    def select(self, index: Tensor) -> Split:
        """Return the split that holds only the examples at `index`."""
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])


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


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return batch[0].to(device), batch[1].to(device)
