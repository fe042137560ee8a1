"""The best choice that a search by forward passes finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pruners.budgets.problems.problem import Choice, Problem
from pruners.budgets.searching.evolution import evolve
from pruners.budgets.searching.judge import Judge, check_search
from pruners.budgets.searching.policy_gradient import climb

EVALUATIONS = 128

METHODS: dict[str, Callable[[Problem, torch.Tensor, Judge, torch.Generator], None]] = {
    "evolution": evolve,
    "policy-gradient": climb,
}


def best_choice(
    problem: Problem,
    start: torch.Tensor,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
) -> tuple[Choice, float]:
    """The best choice that a search finds, and its loss; deterministic, resumable.

    Args:
        problem: masks, sparse + low-rank, or widths.
        start: first logits, (L,).
        evaluations: choices that are measured, the first one included.
        method: "evolution" or "policy-gradient".
        seed: of all random choices.
        journal: file that lets an interrupted search continue; see `Judge`.

    Raises:
        ValueError: an unknown method, the journal of another search, or a loss that is not finite.
    """
    if method not in METHODS:
        raise ValueError(f'unknown search "{method}": expected one of {", ".join(METHODS)}')
    check_search(seed, journal)
    begin = problem.realise(start)
    subject = f"{type(problem).__name__} {problem.dials} {begin} {method} {seed} {evaluations}"
    generator = torch.Generator().manual_seed(seed)
    with Judge(problem.loss, evaluations, subject, journal, method) as judge:
        METHODS[method](problem, start, judge, generator)
    assert judge.best is not None
    return judge.best[1], judge.best[0]
