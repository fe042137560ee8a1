"""Global budget: one threshold over everything that may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pruners.budgets.problems.levels import allowance
from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule


@rule("global", divides="masks")
def global_masks(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Keep the ⌊density · N⌋ largest |w| of all N weights (Han et al. 2015, over the net)."""
    return shares_of_top({name: w.detach().abs().flatten() for name, w in weights.items()}, density)


@rule("global", divides="widths")
def global_widths(request: Request) -> Kept:
    """One threshold over the scores of all units."""
    return request.select(request.scores)


@rule("global", divides="ranks")
def global_ranks(problem: RankProblem) -> Choice:
    r"""One threshold over what a stored number catches: Σ relative output errors at its least.

    A direction with the share e of its layer's output energy is worth e / (cost of m + n numbers).
    Spectra fall, so the best choice under one limit is a threshold.
    """
    return most_worth(problem, [1.0] * len(problem.dials))


def most_worth(problem: RankProblem, strengths: Sequence[float]) -> Choice:
    """One threshold over what a stored number of each matrix catches, times the matrix' strength.

    Args:
        problem: the budget.
        strengths: what each matrix catches altogether, in the order of the dials.
    """
    costs = problem.cost.clamp_min(1e-30).tolist()
    spectra = zip(problem.spectra.values(), costs, strengths, strict=True)
    worth = [s.worth() * strength / c for s, c, strength in spectra]
    listed = torch.cat(worth).sort(descending=True).values

    def at(place: float) -> torch.Tensor:
        threshold = listed[min(int(place), len(listed) - 1)]
        return torch.tensor([int((w >= threshold).sum()) for w in worth], dtype=torch.float64)

    def following(levels: torch.Tensor) -> torch.Tensor:
        pairs = zip(worth, levels.long().tolist(), strict=True)
        return torch.stack([w[min(n, len(w) - 1)] for w, n in pairs])

    def path(place: float) -> torch.Tensor:
        return torch.ones(len(worth), dtype=torch.float64) if place < 0 else at(place)

    return problem.cut(path, -1.0, float(len(listed)), order=following)


def shares_of_top(scores: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """Share of each tensor among the overall top scores; the kept number is exact.

    Args:
        scores: tensor name → score of every weight, 1-D, finite.
        density: share of all weights that stays; the number is rounded down to a whole weight.

    Returns:
        Tensor name → kept share (a multiple of 1 / its size). Scores equal to the threshold are
        kept in the order of the tensors.

    Raises:
        ValueError: scores that are not numbers.
    """
    together = torch.cat([score.float().cpu() for score in scores.values()])
    if together.isnan().any():
        broken = next(name for name, score in scores.items() if score.isnan().any())
        raise ValueError(f'weights of "{broken}" are not numbers (got NaN)')
    kept = allowance(density, together.numel())
    if kept == 0:
        return dict.fromkeys(scores, 0.0)
    threshold = together.kthvalue(together.numel() - kept + 1).values
    sizes = [score.numel() for score in scores.values()]
    parts = together.split(sizes)
    above = [int((part > threshold).sum()) for part in parts]
    tied = kept - sum(above)
    shares = {}
    for name, part, count in zip(scores, parts, above, strict=True):
        extra = min(tied, int((part == threshold).sum()))
        tied -= extra
        shares[name] = (count + extra) / part.numel()
    return shares
