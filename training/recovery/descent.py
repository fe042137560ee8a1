"""A few hundred steps of Adam on weights that were solved already; they end no worse than before.

The examples are few, so the weights that are kept are those that did best on some of them that the
steps never saw, and the weights before the first step are among those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruners.curves.trial import left_out
from pruners.statistics import microbatches
from training.config import check_positive
from training.fitting.optim import generator, learning_rate
from training.fitting.tracking import log


@dataclass(frozen=True)
class Descent:
    """Settings of the steps.

    Args:
        steps: of Adam (Kingma & Ba, arXiv 1412.6980), with half a cosine of learning rates.
        lr: the first and highest of them.
        batch_size: examples a step.
        held_out: share of the batches that judge, in (0, 0.5]; see `pruners.curves.left_out`.
        judge_every: steps between judgements; the last one always has one.
        seed: of the order of the examples.

    Raises:
        ValueError: a setting that makes no sense.
    """

    steps: int = 200
    lr: float = 1e-3
    batch_size: int = 16
    held_out: float = 0.15
    judge_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "steps", "batch_size", "judge_every")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0 (got {self.lr})")
        if not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must lie above 0, and not above 0.5 (got {self.held_out})")


def divided(batches: Sequence[Any], settings: Descent) -> tuple[list[Any], list[Any]]:
    """Batches of at most `batch_size` examples to learn from, and those that judge.

    Args:
        batches: inputs of the model.
        settings: of the steps.

    Raises:
        ValueError: there are not two examples to divide.
    """
    pieces = list(microbatches(batches, settings.batch_size))
    learning, judging = left_out(pieces, settings.held_out)
    if not judging:
        raise ValueError(
            "recovery that descends needs at least two examples, of which one judges (got one that "
            "cannot be divided); give a larger calibration, or leave the method out"
        )
    return learning, judging


def descend(
    parameters: Mapping[str, Tensor],
    pieces: Sequence[Any],
    loss: Callable[[Any], Tensor],
    judge: Callable[[], float],
    settings: Descent,
    restore: Callable[[], None],
) -> tuple[float, float]:
    """Move parameters in place to where the loss is least.

    Args:
        parameters: name → leaf that requires its gradient.
        pieces: batches.
        loss: of a batch, a scalar.
        judge: what decides which parameters stay; smaller is better.
        settings: of the steps.
        restore: puts constraints back after a step.

    Returns:
        What `judge` said before and says now.
    """
    leaves = list(parameters.values())
    optimizer = torch.optim.Adam(leaves, lr=settings.lr)
    before = best = judge()
    kept = [leaf.detach().clone() for leaf in leaves]
    for step in range(settings.steps):
        epoch, place = divmod(step, len(pieces))
        if place == 0:
            order = torch.randperm(len(pieces), generator=generator(settings.seed, epoch)).tolist()
        rate = learning_rate("cosine", step, settings.steps, settings.lr, 0.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        value = loss(pieces[order[place]])
        value.backward()
        optimizer.step()
        restore()
        if (step + 1) % settings.judge_every == 0 or step + 1 == settings.steps:
            found = judge()
            log({"loss": float(value.detach()), "left_out": found, "lr": rate}, step + 1)
            if found < best:
                best, kept = found, [leaf.detach().clone() for leaf in leaves]
    with torch.no_grad():
        for leaf, value in zip(leaves, kept, strict=True):
            leaf.copy_(value)
    return before, best
