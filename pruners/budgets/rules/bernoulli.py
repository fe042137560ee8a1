"""Search over single units: a Bernoulli mask for every channel and head, by forward passes only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from pruners.budgets.problems.problem import Choice, Loss, logit
from pruners.budgets.problems.projection import project
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.problems.widths import WidthProblem, place, unit_cost
from pruners.budgets.registry import rule
from pruners.budgets.searching.judge import Judge, check_search

EVALUATIONS = 256
RATE = 0.3
JUDGED = 5  # pairs between two looks at the selection
SHARPNESS = 2.0
"""Slope of the first probabilities over the logit of a unit's rank: 0 knows nothing."""


@rule("bernoulli", divides="widths")
def bernoulli(
    request: Request,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    rate: float = RATE,
    seed: int = 0,
    journal: str | Path | None = None,
) -> Kept:
    r"""Learn the probability that each unit stays, from pairs of opposite masks.

        m = [v < s],  m' = [v > 1 − s],  v uniform;    g = (L(m) − L(m'))·(m − m') / 2
        φ ← φ − η·g / rms(L − L'),   s = project(σ(φ)) on the expected cost

    Gao et al. 2025, "Bypass Back-propagation: Optimization-based Structural Pruning for Large
    Language Models via Policy Gradient". g is their score-function gradient preconditioned by the
    spread of s, on antithetic instead of independent masks: `mask_gradient` without the
    preconditioner has the gradient of a linear loss as its mean. It starts from the global ranking
    of the scores; every few pairs the highest φ that meet the target exactly are judged, and the
    best of these is returned, never worse than the start.

    Args:
        request: what is asked.
        loss: values → loss.
        evaluations: masks that are measured.
        rate: η.
        seed: of the masks.
        journal: file that lets an interrupted search continue; see `Judge`.

    Raises:
        ValueError: the journal of another search, or a loss that is not finite.
    """
    problem = request.problem(loss)
    kept = request.select(request.scores)
    widths = {axis: len(index) for axis, index in kept.items()}
    start = problem.logits(tuple(widths[axis] for axis in problem.dials))
    placed = place(problem.scores, dict(zip(problem.dials, start, strict=True)))
    sizes = problem.sizes
    # A unit costs what its axis' last one does at the start; sums of these bound the expectation.
    costs = unit_cost(request.net, request.target, widths).clamp_min(1e-9)
    cost = torch.repeat_interleave(costs, torch.tensor(sizes))
    budget = sum(float(c) * widths[a] for c, a in zip(costs, problem.dials, strict=True))
    share = min(max(budget / float(cost.sum()), 1e-6), 1 - 1e-6)
    phi = SHARPNESS * torch.cat([placed[axis] for axis in problem.dials])

    def pieces(units: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(problem.dials, units.split(sizes), strict=True))

    def measure(choice: Choice) -> float:
        bits = pieces(torch.tensor(choice))
        return problem.loss_of({axis: bit.nonzero().flatten() for axis, bit in bits.items()})

    check_search(seed, journal)
    generator = torch.Generator().manual_seed(seed)
    subject = f"bernoulli {problem.dials} {widths} {seed} {evaluations}"
    best: tuple[float, Kept] | None = None
    scale: float | None = None
    with Judge(measure, evaluations, subject, journal, "bernoulli") as judge:
        pairs = 0
        while not judge.spent:
            last = judge.evaluations - len(judge.measured) < 3  # a pair and its verdict
            if pairs % JUDGED == 0 or last:
                chosen = kept if pairs == 0 else request.select(pieces(phi))
                value = judge(bits_of(problem, chosen))
                if best is None or value < best[0]:
                    best = value, chosen
            if last:
                break
            s = project(phi, cost, share).clamp(0.01, 0.99)
            v = torch.rand(phi.numel(), generator=generator, dtype=torch.float64)
            masks = [never_empty(m, phi, sizes) for m in (v < s, v > 1 - s)]
            losses = [judge(tuple(int(b) for b in m)) for m in masks]
            gap = losses[0] - losses[1]
            square = gap * gap
            scale = square if scale is None else 0.9 * scale + 0.1 * square
            g = 0.5 * gap * (masks[0].double() - masks[1].double())
            phi = logit(s) - rate * g / max(scale**0.5, 1e-30)
            pairs += 1
    assert best is not None
    return best[1]


def bits_of(problem: WidthProblem, kept: Mapping[str, torch.Tensor]) -> Choice:
    """Kept units as one 0 or 1 for every unit of every axis."""
    bits: list[int] = []
    for axis, size in zip(problem.dials, problem.sizes, strict=True):
        row = torch.zeros(size, dtype=torch.int64)
        row[kept[axis]] = 1
        bits += row.tolist()
    return tuple(bits)


def never_empty(mask: torch.Tensor, phi: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """The mask, with the likeliest unit of every axis that it would leave without any."""
    found = []
    for bits, logits in zip(mask.split(sizes), phi.split(sizes), strict=True):
        kept = bits.clone()
        if not kept.any():
            kept[logits.argmax()] = True
        found.append(kept)
    return torch.cat(found)


def mask_gradient(
    gap: float | torch.Tensor, one: torch.Tensor, other: torch.Tensor, s: torch.Tensor
) -> torch.Tensor:
    """(L(m) − L(m'))·(m − m') / E(m − m')²: ∂E[L]/∂s as one antithetic pair estimates it.

    E(m − m')² = 2·min(s, 1 − s). The mean is exact for a linear loss.
    """
    return gap * (one.double() - other.double()) / (2 * torch.minimum(s, 1 - s))
