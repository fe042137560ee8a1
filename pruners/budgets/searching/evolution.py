"""Search by evolution: mutate the logits of good budgets, keep what is better."""

from __future__ import annotations

import torch

from pruners.budgets.problems.problem import Problem
from pruners.budgets.searching.judge import Judge

POOL = 8
SPREAD = 0.5
GROW, SHRINK = 1.2, 0.2 / 4


def evolve(
    problem: Problem,
    start: torch.Tensor,
    judge: Judge,
    generator: torch.Generator,
    pool: int = POOL,
    spread: float = SPREAD,
) -> None:
    """Propose to the judge until its evaluations are spent.

    A steady-state (μ + 1) evolution strategy. A child is a good member of the pool (the better of
    two drawn), or the mean of two, with Gaussian noise on a random subset of its logits; whatever
    it is, `realise` puts it on the budget. The noise grows by a fifth on a success and shrinks a
    little on a failure, so that about one child in five improves on its parent (Rechenberg 1973).

    Args:
        problem: turns logits into choices.
        start: logits of the first choice, (L,).
        judge: measures and remembers.
        generator: of all random numbers, on the CPU.
        pool: members μ.
        spread: first standard deviation of the noise.
    """

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    def draw(members: int) -> int:
        picks = torch.randint(members, (2,), generator=generator)
        return int(picks.min())  # the pool is sorted

    begin = start.double()
    members = [(judge(problem.realise(begin)), begin)]
    while not judge.spent:
        value, parent = members[draw(len(members))]
        child = parent.clone()
        if len(members) > 1 and uniform() < 0.25:
            child = 0.5 * (parent + members[draw(len(members))][1])
        moved = 1 + int(child.numel() * uniform() ** 2)
        chosen = torch.randperm(child.numel(), generator=generator)[:moved]
        noise = torch.randn(child.numel(), generator=generator, dtype=torch.float64)
        child[chosen] += spread * noise[chosen]
        choice = problem.realise(child)
        # A choice that is known already means steps smaller than the grid of whole units.
        wider = choice in judge.measured
        found = judge(choice)
        spread *= GROW if wider or found < value else 1 - SHRINK
        spread = min(max(spread, 0.02), 2.0)
        members = sorted([*members, (found, child)], key=lambda member: member[0])[:pool]
