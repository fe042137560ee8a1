r"""Search with a surrogate: a few prunings that are judged correct what was expected of all others.

The logarithm of the damage of a choice w is the expected one, m(w), and a Gaussian process,

    log D(w) = c + m(w) + f(w),    cov(f(w), f(w')) = σ² λ(w)·λ(w') + τ² exp(−|z(w) − z(w')|² / 2L),

where λ are the shares of the L dials in the expected loss and z the logits of what stays of them.
The first term says that a dial may cost more or less than was expected of it, everywhere; the
second that choices near each other err alike; c is free, so that only differences count. What is
judged next has the least m + E f − κ sd f among many mutations of the best (lower confidence bound;
Srinivas et al. 2010, arXiv 0912.3995).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch

from pruners.budgets.problems.problem import Choice, Problem
from pruners.budgets.searching.judge import Judge
from pruners.curves.trial import rounded
from pruners.curves.value import Value
from pruners.recovery.regression import LostFunctionError

OF_DIALS, OF_CHOICES, NOISE = 0.5, 0.2, 0.03
"""σ, τ, and the standard deviation of what is judged: of a coarse grid those under which the
divergences of 5,700 prunings of small convolutional networks were most likely."""

LEVEL = 5.0
"""Standard deviation of c: whatever it is, it is no surprise."""

BOLDNESS = 1.0
"""κ."""

PROPOSALS, GENERATIONS, POOL = 32, 2, 4
"""Mutations of each generation, generations, and members that are mutated."""

STEPS = (0.3, 0.6, 1.2)
"""Standard deviations of mutations of logits."""

FARTHEST = 5.0
"""Logits are cut off here: beyond it all or nothing of a dial stays."""


@dataclass(frozen=True)
class Proposal:
    """A choice that was judged.

    Args:
        choice: what stays.
        predicted: damage that was expected before it was judged; None for one that was given.
        measured: damage.
    """

    choice: Choice
    predicted: float | None
    measured: float

    def to_json(self, dials: Sequence[str]) -> dict[str, Any]:
        """Plain values for plans; None where what was pruned computes NaN."""
        found: dict[str, Any] = {"kept": dict(zip(dials, self.choice, strict=True))}
        if self.predicted is not None:
            found["predicted"] = float(f"{self.predicted:.6g}")
        return {**found, "measured": rounded(self.measured)}


def improve(
    problem: Problem,
    value: Value,
    begin: Sequence[Choice],
    judge: Judge,
    generator: torch.Generator,
    chance: Callable[[], float] = lambda: 0.0,
) -> tuple[Choice, list[Proposal]]:
    """Propose to the judge until its evaluations are spent, or nothing new is found.

    The best is the one with the least damage by all that is known: of many that were judged by few
    examples, the one that did best there was lucky too.

    Args:
        problem: turns logits into choices.
        value: what is expected of choices.
        begin: choices that are judged first, at least one.
        judge: measures and remembers.
        generator: of all random numbers, on the CPU.
        chance: standard deviation of the logarithm of a damage that is judged, so far.

    Returns:
        The best choice, and all that was judged, in order.

    Raises:
        LostFunctionError: nothing that was judged has a finite damage.
    """
    found = []
    for choice in begin:
        if not judge.spent:
            found.append(Proposal(choice, None, judge(choice)))
    while not judge.spent:
        sane = _finite(judge.measured)
        posterior = Posterior(problem, value, sane, chance()) if sane else None
        proposed = _most_promising(problem, posterior, judge, generator)
        if proposed is None:
            break
        predicted = None if posterior is None else float(posterior([proposed])[0].exp())
        found.append(Proposal(proposed, predicted, judge(proposed)))
    sane = _finite(judge.measured)
    if not sane:
        raise LostFunctionError(
            f"what is left computes NaN or infinity in all {len(found)} prunings that were judged: "
            "ask for less"
        )
    known = list(sane)
    mean, _ = Posterior(problem, value, sane, chance())(known)
    return known[int(mean.argmin())], found


def _finite(measured: dict[Choice, float]) -> dict[Choice, float]:
    return {choice: damage for choice, damage in measured.items() if isfinite(damage)}


class Posterior:
    """What is known of all choices after some were judged; see the module.

    Args:
        problem: gives the logits of choices.
        value: what was expected.
        measured: choice → damage, at least one.
        chance: standard deviation of the logarithm of a damage, beside `NOISE`.
    """

    def __init__(
        self, problem: Problem, value: Value, measured: dict[Choice, float], chance: float = 0.0
    ) -> None:
        self._problem, self._value = problem, value
        self._seen = self._features(list(measured))
        found = torch.tensor(list(measured.values()), dtype=torch.float64).clamp_min(1e-12).log()
        kernel = self._kernel(self._seen, self._seen)
        kernel = kernel + (NOISE**2 + chance**2) * torch.eye(len(found), dtype=torch.float64)
        self._factor = torch.linalg.cholesky(kernel)
        rest = found - value.log_damage(list(measured))
        self._weights = torch.cholesky_solve(rest[:, None], self._factor)[:, 0]

    def __call__(self, choices: Sequence[Choice]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the logarithm of the damage, (K,) each, float64."""
        features = self._features(choices)
        across = self._kernel(features, self._seen)
        mean = self._value.log_damage(choices) + across @ self._weights
        own = OF_DIALS**2 * features[0].square().sum(1) + OF_CHOICES**2 + LEVEL**2
        explained = torch.linalg.solve_triangular(self._factor, across.T, upper=False)
        return mean, (own - explained.square().sum(0)).clamp_min(0).sqrt()

    def _features(self, choices: Sequence[Choice]) -> tuple[torch.Tensor, torch.Tensor]:
        losses = self._value.losses(choices)
        logits = torch.stack([self._problem.logits(choice) for choice in choices])
        return losses / losses.sum(1, keepdim=True), logits.clamp(-FARTHEST, FARTHEST)

    @staticmethod
    def _kernel(
        first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        apart = torch.cdist(first[1], second[1]).square() / max(first[1].shape[1], 1)
        near = OF_CHOICES**2 * torch.exp(-apart / 2)
        return OF_DIALS**2 * first[0] @ second[0].T + near + LEVEL**2


def mutated(problem: Problem, choice: Choice, generator: torch.Generator) -> Choice:
    """A choice on the budget near another: Gaussian noise on the logits of some of its dials."""
    logits = problem.logits(choice).clamp(-FARTHEST, FARTHEST)
    count = 1 + int(len(logits) * float(torch.rand((), generator=generator)) ** 2)
    chosen = torch.randperm(len(logits), generator=generator)[:count]
    step = STEPS[int(torch.randint(len(STEPS), (), generator=generator))]
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    logits[chosen] += step * noise
    return problem.realise(logits)


def foreseen(
    problem: Problem,
    value: Value,
    begin: Sequence[Choice],
    generator: torch.Generator,
    generations: int = 6,
) -> Choice:
    """The choice with the least damage by what is expected alone; nothing is judged.

    Args:
        problem: turns logits into choices.
        value: what is expected of choices.
        begin: choices to begin with, at least one; the result is expected to be no worse.
        generator: of all random numbers, on the CPU.
        generations: of mutations.
    """

    def bound(choices: Sequence[Choice]) -> list[float]:
        return value.log_damage(choices).tolist()

    known = dict(zip(begin, bound(begin), strict=True))
    bounds = known | _bounds(problem, bound, sorted(known, key=known.__getitem__), known,
                             generator, generations)  # fmt: skip
    return min(bounds, key=lambda choice: bounds[choice])


def _most_promising(
    problem: Problem, posterior: Posterior | None, judge: Judge, generator: torch.Generator
) -> Choice | None:
    """The choice with the least lower confidence bound of a few generations; None: all known.

    Without a posterior any that is not known.
    """

    def bound(choices: Sequence[Choice]) -> list[float]:
        if posterior is None:
            return [0.0] * len(choices)
        mean, deviation = posterior(choices)
        return (mean - BOLDNESS * deviation).tolist()

    members = sorted(judge.measured, key=lambda choice: judge.measured[choice])
    bounds = _bounds(problem, bound, members, judge.measured, generator, GENERATIONS)
    return min(bounds, key=lambda choice: bounds[choice]) if bounds else None


def _bounds(
    problem: Problem,
    bound: Callable[[Sequence[Choice]], list[float]],
    members: Sequence[Choice],
    known: Mapping[Choice, float],
    generator: torch.Generator,
    generations: int,
) -> dict[Choice, float]:
    """Bounds of choices that are not known yet, each generation mutated from the best before."""
    pool = list(members[:POOL])
    found: dict[Choice, float] = {}
    for _ in range(generations):
        children = []
        for _ in range(PROPOSALS):
            parent = int(torch.randint(len(pool), (2,), generator=generator).min())
            children.append(mutated(problem, pool[parent], generator))
        fresh = [c for c in dict.fromkeys(children) if c not in known and c not in found]
        if fresh:
            found |= dict(zip(fresh, bound(fresh), strict=True))
        if found:
            pool = sorted(found, key=lambda choice: found[choice])[:POOL]
    return found
