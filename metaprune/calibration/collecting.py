"""The list of batches, made once: of a loader, a data set, tensors, or whatever gives batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import Dataset, default_collate

from graphs.calls.running import seeded
from graphs.tools.words import counted

EXAMPLES = 512
"""Examples that are taken of what may have any number of them."""

SIZE = 128
"""Examples of a batch, where they come one by one."""


@dataclass(frozen=True)
class Collected:
    """Batches, and in words what they were taken of."""

    batches: list[Any]
    words: str


def collected(source: Any, seed: int = 0) -> Collected:
    """Batches of what a user has; what gives them once is read once, no further than needed.

    A list of batches is taken whole. Of a loader or a generator of batches the first ones are
    taken, up to `EXAMPLES` examples; of a data set, and of tensors with an example in each row, as
    many at random.

    Args:
        source: a DataLoader, a data set of examples (torch's or `datasets`'), a tensor, a tuple of
            tensors, or an iterable of batches.
        seed: of the choice, and of the order in which a loader shuffles.

    Raises:
        ValueError: it gives nothing of the kind; says what it has to be.
    """
    kind = type(source).__name__
    with seeded(seed):
        if isinstance(source, torch.Tensor | tuple):
            return _of_rows(source, kind)
        if isinstance(source, list):
            words = f"{counted(len(source), 'batch', 'batches')}"
            return Collected([_as_tensors(batch) for batch in source], words)
        if isinstance(source, Mapping) and source and all(map(is_data, source.values())):
            raise ValueError(
                f"choose a split of the data, such as data[{next(iter(source))!r}] (got a {kind} "
                f"of {', '.join(map(str, source))})"
            )
        if is_data(source):
            return _of_examples(source, kind)
        if isinstance(source, Iterable) and not isinstance(source, str | bytes | Mapping):
            return _first(source, kind)
    raise ValueError(
        "calibration takes batches of model inputs, such as [(images,), (more,)], a DataLoader, a "
        f"data set or a metaprune.Calibration (got a {kind})"
    )


def rows(batch: Any) -> int:
    """Examples of a batch: the length of its first tensor."""
    leaves = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    return len(leaves[0]) if leaves and leaves[0].ndim else 1


def _of_rows(source: Any, kind: str) -> Collected:
    source = _as_tensors(source)
    lengths = {len(leaf) if leaf.ndim else 0 for leaf in tree_leaves(source)}
    if len(lengths) != 1:
        raise ValueError(
            f"the tensors of a {kind} of examples must have as many rows as one another (got "
            f"{', '.join(map(str, sorted(lengths)))})"
        )
    count = lengths.pop()
    chosen = torch.randperm(count)[:EXAMPLES].sort().values
    batches = [
        tree_map(lambda leaf, index=index: leaf[index.to(leaf.device)], source)
        for index in chosen.split(SIZE)
    ]
    return Collected(batches if count else [], f"{_of(len(chosen), count)} of a {kind}")


def _of_examples(source: Any, kind: str) -> Collected:
    if hasattr(source, "with_format") and not (getattr(source, "format", None) or {}).get("type"):
        source = source.with_format("torch")
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        count = len(source)
        chosen = torch.randperm(count)[:EXAMPLES].sort().values.tolist()
        examples, words = [source[index] for index in chosen], _of(len(chosen), count)
    else:
        examples = list(islice(source, EXAMPLES))
        words = f"the first {counted(len(examples), 'example')}"
    try:
        batches = [
            default_collate([_as_tensors(e) for e in examples[start : start + SIZE]])
            for start in range(0, len(examples), SIZE)
        ]
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"the examples of the {kind} do not stack to a batch ({reason}): give them one size, "
            "or pass a DataLoader whose collate_fn pads them"
        ) from error
    return Collected(batches, f"{words} of a {kind}")


def _first(source: Iterable[Any], kind: str) -> Collected:
    batches: list[Any] = []
    found = 0
    for batch in _each(source, kind):
        batches.append(_as_tensors(batch))
        found += rows(batches[-1])
        if found >= EXAMPLES:
            break
    return Collected(batches, f"the first {counted(found, 'example')} of a {kind}")


def _each(source: Iterable[Any], kind: str) -> Iterator[Any]:
    """What a loader or a generator gives.

    Raises:
        ValueError: it failed; says at which batch.
    """
    number = 1
    try:
        for number, batch in enumerate(source, start=1):
            yield batch
            number += 1
    except Exception as error:  # whatever the caller's own code raises
        raise ValueError(
            f"batch {number} of the {kind} cannot be made: {type(error).__name__}: {error}"
        ) from error


def _of(chosen: int, count: int) -> str:
    if chosen == count:
        return f"all {counted(count, 'example')}"
    return f"{chosen:,} of the {count:,} examples, at random,"


def is_data(source: Any) -> bool:
    """Whether it is a data set of examples; those of `datasets` are known without importing it."""
    home = type(source).__module__.partition(".")[0]
    return isinstance(source, Dataset) or (home == "datasets" and hasattr(source, "with_format"))


def _as_tensors(batch: Any) -> Any:
    return tree_map(lambda x: torch.as_tensor(x) if isinstance(x, np.ndarray) else x, batch)
