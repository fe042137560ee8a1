"""How good a metanetwork's advice is on networks it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log

import torch
from torch import Tensor, nn

from metanet import Transformation
from pruners.units import mask_values
from training.data.split import Batch
from training.meta.objectives import FLOOR
from training.meta.soft import decided_masks, divergence, outputs
from training.meta.subjects import Subject


@dataclass(frozen=True)
class Judgement:
    """KL(dense ‖ pruned) on validation: geometric means over networks and shares.

    Every data set counts alike, however many networks were trained on it.

    Args:
        advised: with the metanetwork's advice.
        base: by the rule that it corrects.
        wins: share of (network, share) pairs where the advice is better.
    """

    advised: float
    base: float
    wins: float


@dataclass(frozen=True)
class Comparison:
    """One network pruned to one share of its MACs: KL(dense ‖ pruned) on validation.

    Args:
        network, family: of the subject.
        data: fingerprint of its data.
        share: of the MACs that stays.
        advised: with the metanetwork's advice.
        base: by the rule that it corrects.
    """

    network: str
    family: str
    data: str
    share: float
    advised: float
    base: float


def judge(
    meta: nn.Module,
    subjects: Sequence[Subject],
    shares: Sequence[float] = (0.66, 0.5, 0.33),
    *,
    evidence: bool = True,
    examples: int = 256,
) -> Judgement:
    """What `compare` finds, in three numbers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in compare(meta, subjects, shares, evidence=evidence, examples=examples):
        found.setdefault(one.data, []).append((log(one.advised), log(one.base)))
    zoos = list(found.values())
    return Judgement(
        exp(_mean([_mean([a for a, _ in pairs]) for pairs in zoos])),
        exp(_mean([_mean([b for _, b in pairs]) for pairs in zoos])),
        _mean([_mean([float(a < b) for a, b in pairs]) for pairs in zoos]),
    )


@torch.no_grad()
def compare(
    meta: nn.Module,
    subjects: Sequence[Subject],
    shares: Sequence[float] = (0.66, 0.5, 0.33),
    *,
    evidence: bool = True,
    examples: int = 256,
) -> list[Comparison]:
    """Prune every subject to every share of its MACs, one shot, with the advice and without.

    Args:
        meta: gives the advice.
        subjects: networks that it did not learn from.
        shares: of the MACs that stay.
        evidence: whether it sees calibration evidence.
        examples: of the validation split that are measured.
    """
    found = []
    for subject in subjects:
        batch = subject.data.validation.batch(
            torch.arange(min(examples, len(subject.data.validation)))
        )
        dense = subject.data.task.forward(subject.model, batch)
        for share in shares:
            advice = meta(subject.net, subject.evidence(0) if evidence else None, share)
            advised, base = (
                _divergence(subject, given, share, batch, dense) for given in (advice, None)
            )
            about = subject.name, subject.family, subject.data.fingerprint
            found.append(Comparison(*about, share, advised, base))
    return found


SHRINKAGE = (1.0, 0.75, 0.5, 0.25)


def shrink(meta: nn.Module, subjects: Sequence[Subject]) -> dict[str, float]:
    """Scale all logits of a metanetwork by the factor that is judged best.

    A policy learned from noisy slopes says more than it knows; a part of its correction is safer
    than all of it (the idea of James & Stein 1961). Changes `meta.logit_bound`, in place, where the
    metanetwork has one.

    Args:
        meta: a metanetwork; its logits are `logit_bound` times a number in [-1, 1].
        subjects: held-out networks.

    Returns:
        The judgement of the chosen factor, with `shrinkage` the factor.
    """
    bound = getattr(meta, "logit_bound", None)
    if bound is None:
        return asdict(judge(meta, subjects))
    found = []
    for factor in SHRINKAGE:
        meta.logit_bound = bound * factor
        found.append((judge(meta, subjects), factor))
    best, factor = min(found, key=lambda pair: pair[0].advised)
    meta.logit_bound = meta.config["logit_bound"] = bound * factor
    return asdict(best) | {"shrinkage": factor}


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _divergence(
    subject: Subject, advice: Transformation | None, share: float, batch: Batch, dense: Tensor
) -> float:
    values = advice.values if advice else None
    corrections = advice.corrections() if advice else None
    masks = decided_masks(subject.net, corrections, share, values)
    values = mask_values(subject.net, masks, values)
    return float(divergence(outputs(subject.model, values, subject.data, batch), dense)) + FLOOR
