"""Fitting a value to triples: budgets of one network for one target, put in order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from metanet import ValueNetwork
from pruners.curves import FACTS
from training.config import check_positive
from training.values.cases import Known


@dataclass(frozen=True)
class ValueConfig:
    """How a value is fitted.

    Args:
        members: that learn from different draws.
        epochs: passes over the cases.
        pairs: of budgets of a case that are compared each time.
        lr: highest learning rate of AdamW; it falls as a cosine.
        weight_decay: of AdamW, towards the sum of expected losses.
        steepness: of the comparison, in logarithms of damage.
        focus: how much more the best budgets of a case count: weights fall as e^(−focus · distance
            from the best in logarithms of damage).
        seed: of all draws.
    """

    members: int = 4
    epochs: int = 12
    pairs: int = 96
    lr: float = 3e-3
    weight_decay: float = 0.3
    steepness: float = 3.0
    focus: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "members", "epochs", "pairs")


def fit_value(cases: Sequence[Known], config: ValueConfig | None = None) -> ValueNetwork:
    """A value that puts the budgets of these cases in order; it starts at the sum of losses.

    For pairs of budgets of one case the logistic loss of their order, weighted by how far apart
    their damages are, and by how near the better one is to the best of the case.

    Args:
        cases: at least one.
        config: how.

    Raises:
        ValueError: no cases.
    """
    settings = config or ValueConfig()
    if not cases:
        raise ValueError("a value needs triples of channels to learn from (got none)")
    network = ValueNetwork(facts=len(FACTS), members=settings.members)
    network.standardise(torch.cat([case.facts.table for case in cases]))
    told = [case.told(network).told(case.triples.choices.tolist()) for case in cases]
    damages = [case.triples.damage.clamp_min(1e-4).log() for case in cases]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * len(cases)
    order, shuffler = list(range(len(cases))), random.Random(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    members = torch.arange(settings.members)[:, None]
    for step in range(steps):
        if step % len(cases) == 0:
            shuffler.shuffle(order)
        place = order[step % len(cases)]
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        y, found = damages[place], network(*told[place])
        shape = settings.members, settings.pairs
        one, other = torch.randint(len(y), (2, *shape), generator=generator).unbind()
        apart = y[one] - y[other]
        margin = (found[members, one] - found[members, other]) * apart.sign()
        weight = torch.exp(-settings.focus * (torch.minimum(y[one], y[other]) - y.min()))
        loss = weight * F.softplus(-settings.steepness * margin) * apart.abs().clamp(max=1)
        optimizer.zero_grad()
        loss.mean(1).sum().backward()
        for parameter in network.parameters():
            if parameter.grad is not None:
                _clip(parameter)
        optimizer.step()
    return network.eval()


def _clip(parameter: nn.Parameter) -> None:
    """Gradients of norm 1 at most, for every member by itself."""
    assert parameter.grad is not None
    flat = parameter.grad.reshape(len(parameter), -1)
    norms = flat.norm(dim=1).clamp_min(1.0)
    parameter.grad.div_(norms.reshape(-1, *[1] * (parameter.ndim - 1)))
