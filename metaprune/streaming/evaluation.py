"""Figures of a checkpoint that need not fit in memory: all batches pass one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprune.streaming.chain import Chain
from metaprune.streaming.checkpoint import Checkpoint
from metaprune.streaming.skeleton import Skeleton
from pruners.curves.trial import divergence
from pruners.statistics import microbatches
from pruners.statistics.likelihood import scores_of
from training.data.core import Data
from training.data.split import to_device
from training.data.tasks import logits


@torch.no_grad()
def evaluate(
    path: str | Path,
    data: Data,
    split: str = "test",
    *,
    batch_size: int = 8,
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    tell: Callable[[str, int, int], None] | None = None,
) -> dict[str, float]:
    """The figures of `training.evaluate`, with the weights of one block in memory at a time.

    Args:
        path: folder of a transformers checkpoint.
        data: with the task.
        split: `train`, `validation` or `test`.
        batch_size: examples whose scores live at a time.
        limit: use only the first examples.
        dtype, device: in and on which blocks compute.
        tell: see `metaprune.stream`.

    Raises:
        NoChainError, ValueError, FileNotFoundError: see `metaprune.stream`.
    """
    skeleton = Skeleton(Checkpoint.of(path), dtype, device)
    examples = data.split(split).take(limit)
    batches = [to_device(batch, skeleton.device) for batch in examples.batches(batch_size)]
    inputs = [data.task.example_inputs(batch) for batch in batches]
    chain = Chain(skeleton, inputs[0])
    entries = [chain.enter(one) for one in inputs]
    hidden = [entry.hidden for entry in entries]
    for i, name in enumerate(chain.names):
        with skeleton.filled(name) as block:
            for n, entry in enumerate(entries):
                hidden[n] = block(**chain.inputs(i, hidden[n], entry))
        if tell is not None:
            tell("blocks evaluated", i + 1, len(chain.names))
    metrics = data.task.metrics(examples)
    for one, batch, end in zip(inputs, batches, hidden, strict=True):
        metrics.update(logits(chain.leave(one, end)), batch)
    return metrics.compute()


@torch.no_grad()
def divergence_between(
    chain: Chain, batches: Sequence[Any], dense: Sequence[Tensor], pruned: Sequence[Tensor]
) -> float:
    """KL(dense ‖ pruned) in nats, the mean over predictions.

    Args:
        chain: of the model.
        batches: inputs of it.
        dense, pruned: what the last block of either network hands on, of every batch.
    """
    total, count = 0.0, 0
    for batch, *both in zip(batches, dense, pruned, strict=True):
        # The scores of one example at a time: vocabularies are large.
        pieces = list(microbatches([batch], 1))
        parts = zip(pieces, *(end.split(1) for end in both), strict=True)
        for piece, *states in [(batch, *both)] if len(pieces) != len(both[0]) else parts:
            said = []
            for state in states:
                scores, counted = scores_of(chain.leave(piece, state), piece)
                said.append(scores[counted].float().log_softmax(-1))
            total += float(divergence(*said).double().sum())
            count += len(said[0])
    return total / max(1, count)
