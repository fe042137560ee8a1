"""Search: measure budgets instead of predicting their loss, from any rule's budget upwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from pruners.budgets.channels import Kept, Request, channel_allocator
from pruners.budgets.problems.masks import MaskProblem, Solve
from pruners.budgets.problems.problem import Choice, Loss, Problem
from pruners.budgets.registry import allocator
from pruners.budgets.rules.price import first
from pruners.budgets.searching.evolution import evolve
from pruners.budgets.searching.judge import Judge
from pruners.budgets.searching.policy_gradient import climb
from pruners.solvers.zeros import MaskPattern

EVALUATIONS = 128

METHODS: dict[str, Callable[[Problem, torch.Tensor, Judge, torch.Generator], None]] = {
    "evolution": evolve,
    "policy-gradient": climb,
}


@allocator("search")
def search(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
    start: Mapping[str, float] | None = None,
    pattern: str | MaskPattern = "unstructured",
    out_dims: Mapping[str, int] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
    solve: Solve | None = None,
) -> dict[str, float]:
    """The best of many budgets by the loss with exact masks; forward passes only.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: values → loss; its `value` is used where it has one.
        evaluations: budgets that are measured, the first one included.
        method: "evolution" or "policy-gradient".
        seed: of all random choices.
        journal: file that lets an interrupted search continue; see `Judge`.
        start: kept share by tensor name; default the better of LAMP and one global threshold,
            which takes two more forward passes. The result is never worse.
        pattern, out_dims, lower, upper, solve: see `MaskProblem`.

    Raises:
        ValueError: an unknown method, the journal of another search, or a loss that is not finite.
    """
    problem = MaskProblem(weights, density, loss, pattern, out_dims, lower, upper, solve)
    if problem.total in (0, sum(problem.sizes)):
        return dict.fromkeys(weights, float(density))
    begin = first(problem, weights, density, start)
    choice, _ = best_choice(problem, begin, evaluations, method, seed, journal)
    return dict(zip(weights, problem.shares(choice).tolist(), strict=True))


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
        evaluations, method, seed, journal: see `search`.

    Raises:
        ValueError: as `search`.
    """
    if method not in METHODS:
        raise ValueError(f'unknown search "{method}": expected one of {", ".join(METHODS)}')
    begin = problem.realise(start)
    subject = f"{type(problem).__name__} {problem.dials} {begin} {method} {seed} {evaluations}"
    generator = torch.Generator().manual_seed(seed)
    with Judge(problem.loss, evaluations, subject, journal, method) as judge:
        METHODS[method](problem, start, judge, generator)
    assert judge.best is not None
    return judge.best[1], judge.best[0]


@channel_allocator("search")
def search_widths(
    request: Request,
    *,
    loss: Loss,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | Path | None = None,
    start: str = "global",
) -> Kept:
    """The best of many widths by the loss of the faded network; forward passes only.

    Args:
        request: what is asked.
        loss: values → loss.
        evaluations, method, seed, journal: see `search`.
        start: "global" or "uniform"; the result is never worse.

    Raises:
        ValueError: as `search`.
    """
    if start not in ("global", "uniform"):
        raise ValueError(f'a search of widths starts from "global" or "uniform" (got {start!r})')
    problem = request.problem(loss)
    kept = request.select(request.scores, start)
    begin = problem.logits(tuple(len(kept[axis]) for axis in problem.dials))
    choice, value = best_choice(problem, begin, evaluations, method, seed, journal)
    return problem.kept(choice) if value < problem.loss_of(kept) else kept
