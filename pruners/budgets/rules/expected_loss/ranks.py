"""Expected loss over ranks: one threshold over what stored numbers catch."""

from __future__ import annotations

import torch

from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.registry import rule
from pruners.budgets.rules.global_threshold import most_worth
from pruners.curves import Curve, ExpectedLoss, Prediction


@rule("expected-loss", divides="ranks")
def expected_loss_ranks(problem: RankProblem, *, expected: ExpectedLoss) -> Choice:
    r"""One threshold over what a stored number catches of ½ tr(G W H Wᵀ), all weights together.

    The best factors of rank r leave the squared singular values of G^½ W H^½ behind the first r.

    Args:
        problem: the budget.
        expected: both sides of the weights; those that were not measured count as an average one.
    """
    found = {name: one.energy for name, one in expected.sides.items() if name in problem.spectra}
    middle = torch.tensor(list(found.values()) or [1.0], dtype=torch.float64).median().item()
    strengths = [found.get(name, middle) for name in problem.dials]
    choice = most_worth(problem, strengths)
    curves = {}
    for (name, spectrum), strength in zip(problem.spectra.items(), strengths, strict=True):
        missed = [*(1 - spectrum.energy.cumsum(0)).tolist(), 0.0]
        curves[name] = Curve.of(range(1, len(missed) + 1), [strength * share for share in missed])
    expected.prediction = Prediction(curves, dict(zip(problem.dials, choice, strict=True)))
    return choice
