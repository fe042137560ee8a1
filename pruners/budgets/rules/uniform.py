"""Uniform budget: the same share of everything."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule


@rule("uniform", divides="masks")
def uniform_masks(weights: Mapping[str, torch.Tensor], density: float) -> dict[str, float]:
    """k_l = density."""
    return dict.fromkeys(weights, float(density))


@rule("uniform", divides="widths")
def uniform_widths(request: Request) -> Kept:
    """The same share of every axis."""
    return request.select(request.scores, "uniform")


@rule("uniform", divides="ranks")
def uniform_ranks(problem: RankProblem) -> Choice:
    """Every matrix stores the same share of its numbers."""
    return problem.cut(lambda share: share * problem.sizes / problem.step, 0.0, 1.0)
