"""What a rule for widths is asked: scores of units, a target, and the cut that meets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pruners.budgets.problems.problem import Loss
from pruners.budgets.problems.widths import WidthProblem
from pruners.targets import Target
from pruners.units.select import MinUnits, select

if TYPE_CHECKING:
    from graphs import Network

Kept = dict[str, torch.Tensor]
Scores = Mapping[str, torch.Tensor]
Cut = Callable[..., Kept]


@dataclass(frozen=True)
class Request:
    """What a rule for widths is asked.

    Args:
        net: the dense network.
        scores: axis name → score of every unit; only these axes are pruned, and inside an axis the
            highest scores stay, unless the rule scores units itself.
        target: what the pruned network may cost.
        min_units, round_to: see `units.select`.
        cut: makes the selection: `units.select`, or a function of its arguments that ties
            widths together.
    """

    net: Network
    scores: Scores
    target: Target
    min_units: MinUnits = 0.05
    round_to: int = 1
    cut: Cut = select

    def select(self, scores: Scores, scope: str = "global") -> Kept:
        """The exact cut of these scores."""
        return self.cut(self.net, scores, self.target, scope, self.min_units, self.round_to)

    def problem(self, loss: Loss) -> WidthProblem:
        """The widths as dials, for rules that measure."""
        return WidthProblem(
            self.net, self.scores, self.target, loss, self.min_units, self.round_to, self.cut
        )
