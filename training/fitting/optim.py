"""Optimisers, learning-rate schedules as functions of the step, and random streams.

Nothing here has a state beyond the optimiser's: the learning rate and the random numbers of step
t are functions of t and the seed, so a resumed run has nothing else to restore.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Generator, nn

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("onecycle", "cosine", "constant")


def optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float
) -> torch.optim.Optimizer:
    """Build an optimiser; vectors (biases, norm scales) are not decayed.

    Args:
        name: `sgd` (Nesterov where there is momentum) or `adamw`.
        parameters: those that do not require a gradient are left out.
        lr, momentum, decay: of the optimiser; `momentum` is AdamW's first beta.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def learning_rate(schedule: str, step: int, steps: int, peak: float, warmup: float) -> float:
    """Return the learning rate of a step.

    Args:
        schedule: `cosine` (linear rise, then half a cosine down to 0), `onecycle` (linear rise,
            then linear fall to 0, after Smith, arXiv 1708.07120) or `constant` (after the rise).
        step: 0 .. steps - 1.
        steps: of the whole run.
        peak: highest learning rate.
        warmup: share of the steps that rise.
    """
    rise = int(warmup * steps)
    if step < rise:
        return peak * (step + 1) / (rise + 1)
    if schedule == "constant":
        return peak
    done = (step - rise) / max(1, steps - rise)
    return (
        peak * (1 - done) if schedule == "onecycle" else peak * (1 + math.cos(math.pi * done)) / 2
    )


def stream(seed: int, *path: int) -> int:
    """Return the seed of an independent random stream, addressed by integers."""
    state = np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *path: int) -> Generator:
    """Return a fresh generator for a stream; see `stream`."""
    return Generator().manual_seed(stream(seed, *path))
