"""Batches without the places that only fill them up.

A padded place is computed with all the others, though no prediction reads it: in moments of inputs
it would count as an example of them. Without padding, statistics, repairs and judgements are those
of the examples, however they were put together to batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

MASK = "attention_mask"
IGNORED = -100
"""Label of places that no loss counts."""


def without_padding(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of the same examples, those of one length together, cut to it.

    Args:
        batches: mappings with an `attention_mask`, (examples, tokens), that is 0 before or after
            the tokens of an example. All others are left as they are, also where labels are counted
            in padded places, or where it is not plain which dimension of a tensor is of tokens.
    """
    for batch in batches:
        yield from _split(dict(batch)) if _padded(batch) else (batch,)


def _padded(batch: Any) -> bool:
    """Whether a batch is padded in a way that can be taken back."""
    mask = batch.get(MASK) if isinstance(batch, Mapping) else None
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or mask.is_meta:
        return False
    real = mask.bool()
    first, last = _ends(real)
    if bool(real.all()) or not bool((real.sum(1) == last - first).all()):
        return False
    labels = batch.get("labels")
    along = isinstance(labels, torch.Tensor) and labels.shape == mask.shape
    if along and bool((labels[~real] != IGNORED).any()):
        return False
    tensors = [(k, v) for k, v in batch.items() if isinstance(v, torch.Tensor) and v.ndim]
    return all(
        len(v) == len(mask) and (_along(k, v, mask) or mask.shape[1] not in v.shape[1:])
        for k, v in tensors
    )


def _split(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    mask = batch[MASK]
    first, last = (side.tolist() for side in _ends(mask.bool()))
    groups: dict[tuple[int, int], list[int]] = {}
    for example, ends in enumerate(zip(first, last, strict=True)):
        groups.setdefault(ends, []).append(example)
    for (start, stop), examples in groups.items():
        if start == stop:
            continue  # no token at all
        index = torch.tensor(examples, device=mask.device)
        yield {
            key: _part(key, value, mask, index, slice(start, stop)) for key, value in batch.items()
        }


def _part(key: str, value: Any, mask: torch.Tensor, index: torch.Tensor, places: slice) -> Any:
    """What some examples have of an entry of a batch, in some places."""
    if not isinstance(value, torch.Tensor) or not value.ndim:
        return value
    part = value[index.to(value.device)]
    return part[:, places] if _along(key, value, mask) else part


def _along(key: str, value: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether the second dimension of a tensor is that of the masked tokens."""
    return value.shape[:2] == mask.shape and not key.startswith("decoder_")


def _ends(real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(first token, one past the last one) of every example; both 0 where there is none."""
    some, place = real.any(1), real.long()
    first = place.argmax(1) * some
    last = (real.shape[1] - place.flip(1).argmax(1)) * some
    return first, last
