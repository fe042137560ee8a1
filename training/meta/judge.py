"""How good a metanetwork's advice is on networks it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor, nn

from metanet import Transformation
from pruners.structured import mask_values
from training.meta.objectives import FLOOR
from training.meta.soft import decided_masks, divergence, outputs
from training.meta.tasks import Task
from training.tasks import Batch


@dataclass(frozen=True)
class Judgement:
    """KL(dense ‖ pruned) on validation, geometric means over networks and shares.

    Args:
        advised: with the metanetwork's advice.
        base: by the rule that it corrects.
        wins: share of (network, share) pairs where the advice is better.
    """

    advised: float
    base: float
    wins: float


@torch.no_grad()
def judge(
    meta: nn.Module,
    tasks: Sequence[Task],
    shares: Sequence[float] = (0.66, 0.5, 0.33),
    *,
    evidence: bool = True,
    examples: int = 256,
) -> Judgement:
    """Prune every task to every share of its MACs, one shot, and compare with the base rule."""
    advised: list[float] = []
    base: list[float] = []
    for task in tasks:
        batch = task.data.validation.batch(torch.arange(min(examples, len(task.data.validation))))
        dense = task.data.task.forward(task.model, batch)
        for share in shares:
            advice = meta(task.net, task.evidence(0) if evidence else None, share)
            for found, given in ((advised, advice), (base, None)):
                found.append(_divergence(task, given, share, batch, dense))
    return Judgement(
        exp(sum(map(log, advised)) / len(advised)),
        exp(sum(map(log, base)) / len(base)),
        sum(a < b for a, b in zip(advised, base, strict=True)) / len(base),
    )


def _divergence(
    task: Task, advice: Transformation | None, share: float, batch: Batch, dense: Tensor
) -> float:
    values = advice.values if advice else None
    corrections = advice.corrections() if advice else None
    masks = decided_masks(task.net, corrections, share, values)
    values = mask_values(task.net, masks, values)
    return float(divergence(outputs(task.model, values, task.data, batch), dense)) + FLOOR
