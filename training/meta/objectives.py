"""What a metanetwork is trained for. An objective is one decorated function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from graphs.tools.registry import Registry
from metanet import Transformation
from pruners.units import mask_values, unit_scores
from training.data.split import Batch
from training.meta.soft import decided_masks, divergence, outputs
from training.meta.subjects import Subject

Objective: TypeAlias = Callable[[Subject, Transformation, float, Batch, torch.Generator], Tensor]
OBJECTIVES: Registry[Objective] = Registry("objective")

FLOOR = 0.01
"""Nats below which two networks count as equal."""


def objective(name: str) -> Callable[[Objective], Objective]:
    """Register an objective: (subject, advice, share of the MACs that stays, batch, random) → loss.

    Raises:
        ValueError: the name is taken.
    """
    return OBJECTIVES.register(name)


PAIRS, SPREAD = 2, 0.2
"""Antithetic pairs an episode; standard deviation of the policy, in logits."""


@objective("policy-gradient")
def policy_gradient(
    subject: Subject, advice: Transformation, share: float, batch: Batch, random: torch.Generator
) -> Tensor:
    """E log(KL(dense ‖ pruned) + floor) over Gaussian policies around the advised corrections.

    With ε for every unit and every axis, the gradient with respect to the corrections c is
    estimated by antithetic pairs, (L(c + ε) - L(c - ε)) ε / (2 σ²): exact where L is linear, free
    of even-order noise, and of forward passes only (Williams 1992; Mania et al. 2018,
    arXiv 1803.07055). The advised weights learn from the loss at c itself, through its gradient.
    """
    with torch.no_grad():
        dense = subject.data.task.forward(subject.model, batch)

    def loss(corrections: dict[str, Tensor]) -> Tensor:
        masks = decided_masks(subject.net, corrections, share, advice.values)
        values = mask_values(subject.net, masks, advice.values)
        return (
            divergence(outputs(subject.model, values, subject.data, batch), dense) + FLOOR
        ).log()

    logits = advice.corrections()
    held = {a: c.detach() for a, c in logits.items()}
    score = loss(held)
    for _ in range(PAIRS):
        noise = {
            a: SPREAD * (_gauss(c.shape, random) + _gauss((), random)) for a, c in held.items()
        }
        with torch.no_grad():
            up = loss({a: held[a] + e for a, e in noise.items()})
            down = loss({a: held[a] - e for a, e in noise.items()})
        slope = (up - down) / (2 * SPREAD**2 * PAIRS)
        along = sum((noise[a] * logits[a]).sum() for a in logits)
        score = score + slope * (along - along.detach())
    return score


def _gauss(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=random)


@objective("straight-through")
def straight_through(
    subject: Subject, advice: Transformation, share: float, batch: Batch, random: torch.Generator
) -> Tensor:
    """log(KL(dense ‖ pruned) + floor), after the selection that the advice leads to.

    The decision is hard, its gradient straight-through (`soft.decided_masks`); weights and
    corrections learn from the same loss. The logarithm makes easy and hard networks count alike.
    """
    masks = decided_masks(subject.net, advice.corrections(), share, advice.values)
    pruned = outputs(
        subject.model, mask_values(subject.net, masks, advice.values), subject.data, batch
    )
    with torch.no_grad():
        dense = subject.data.task.forward(subject.model, batch)
    return (divergence(pruned, dense) + FLOOR).log()


GROUP_WEIGHT, GROUP_EXPONENT = 10.0, 4.0


@objective("group-norm")
def group_norm(
    subject: Subject, advice: Transformation, share: float, batch: Batch, random: torch.Generator
) -> Tensor:
    """Subject loss of the transformed network + group-sparsity regulariser (Liu et al. 2025).

    The regulariser is DepGraph's (Fang et al. 2023, eq. 5): Σ_u γ_u ‖w_u‖², with
    γ_u = 2^(α (I_max - I_u) / (I_max - I_min)), I_u = ‖w_u‖ the importance of a unit in its axis,
    so that weak units shrink most; divided by 2^α and by the number of units. The share is not
    used: the published metanetwork knows no target.
    """
    transformed = outputs(subject.model, advice.values, subject.data, batch)
    loss = subject.data.task.loss(transformed, batch)
    total, count = loss.new_zeros(()), 0
    for norms in unit_scores(subject.net, "l2", advice.values).values():
        held = norms.detach()
        spread = (held.max() - held.min()).clamp_min(1e-12)
        gamma = torch.exp2(GROUP_EXPONENT * ((held.max() - held) / spread - 1))
        total = total + (gamma * norms.square()).sum() / held.square().mean().clamp_min(1e-12)
        count += len(norms)
    return loss + GROUP_WEIGHT * total / max(1, count)
