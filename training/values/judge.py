"""How good a value is on networks of families that it did not learn from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from training.values.cases import ROUNDING, Known
from training.values.fit import ValueConfig, fit_value


@dataclass(frozen=True)
class Standing:
    """One case, judged by a value that learned from other families.

    Args:
        member, family: the network.
        share: of the cost that stays.
        correlation: Spearman, of foreseen and measured damages.
        of_sum: the same of the sum of expected losses.
        picked: damage of the budget with the least foreseen one, by that of the least sum.
        best: the least damage of all budgets, by that of the least sum.
        target: what was asked, as a person writes it.
        rules: name → damage of its budget, by that of the least sum.
    """

    member: str
    family: str
    share: float
    correlation: float
    of_sum: float
    picked: float
    best: float
    target: str
    rules: Mapping[str, float]


def left_out_families(cases: Sequence[Known], config: ValueConfig | None = None) -> list[Standing]:
    """Every family left out in turn: a value learns from the others and foresees this one.

    Args:
        cases: of at least two families.
        config: how values are fitted.

    Raises:
        ValueError: one family alone.
    """
    families = sorted({case.family for case in cases})
    if len(families) < 2:
        raise ValueError(f"leaving a family out needs at least two (got {', '.join(families)})")
    found = []
    for family in families:
        network = fit_value([case for case in cases if case.family != family], config)
        for case in cases:
            if case.family == family:
                one = case.triples
                choices, damage = one.choices.tolist(), one.damage.clamp_min(ROUNDING)
                foreseen = case.told(network).log_damage(choices)
                sums = one.value().log_damage(choices)
                first = damage[one.named["expected loss"]]
                found.append(
                    Standing(
                        one.member,
                        family,
                        case.share,
                        spearman(foreseen, damage),
                        spearman(sums, damage),
                        float(damage[foreseen.argmin()] / first),
                        float(damage.min() / first),
                        " ".join(f"{name} {amount}" for name, amount in one.asked.items()),
                        {name: float(damage[i] / first) for name, i in one.named.items()},
                    )
                )
    return found


def spearman(one: torch.Tensor, other: torch.Tensor) -> float:
    """Rank correlation of two (K,) tensors; 0 where one of them has no spread."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (one, other)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    scale = ranks.norm(dim=1).prod()
    return float(ranks[0] @ ranks[1] / scale) if scale > 0 else 0.0


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers.

    Raises:
        ValueError: one is not positive.
    """
    return statistics.geometric_mean(values)
