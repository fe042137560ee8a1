"""A trained value of the budgets of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from metanet import ValueNetwork
from pruners.curves import Curve, Facts, SumOfLosses

CAUTION = 0.5
"""Standard deviations of the members that are added to their mean."""


class LearnedValue:
    """A `pruners.curves.Value`: what a network of metanet says of budgets of one network's widths.

    Args:
        network: trained.
        facts: of the axes.
        curves: axis → expected loss over its width.
        dials: axes that budgets choose, in the order of choices; all of them have facts.
        sizes: of the dials.
        share: of the whole cost that stays.
    """

    def __init__(
        self,
        network: ValueNetwork,
        facts: Facts,
        curves: Mapping[str, Curve],
        dials: Sequence[str],
        sizes: Sequence[int],
        share: float,
    ) -> None:
        self._network, self._facts, self._share = network, facts, share
        self._sum = SumOfLosses(dials, curves, sizes)
        place = {axis: i for i, axis in enumerate(dials)}
        self._places = [place[axis] for axis in facts.axes]
        self._sizes = torch.tensor([sizes[i] for i in self._places], dtype=torch.float64)
        most = int(self._sizes.max())
        self._errors = torch.zeros(2, len(facts.axes), most, dtype=torch.float64)
        for i, axis in enumerate(facts.axes):
            for row, known in zip(self._errors[:, i], (facts.mean, facts.largest), strict=True):
                row[: len(known[axis])] = known[axis]

    def losses(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `pruners.curves.Value`."""
        return self._sum.losses(choices)

    def log_damage(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `pruners.curves.Value`: with caution where the members disagree."""
        with torch.no_grad():
            found = self.members(choices)
        if len(found) < 2:
            return found[0]
        return found.mean(0) + CAUTION * found.std(0)

    def members(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """What every member says, (M, K), float64, with gradients."""
        return self._network(*self.told(choices))

    def told(self, choices: Sequence[Sequence[int]]) -> tuple[object, ...]:
        """The arguments of the network."""
        levels = torch.tensor([list(choice) for choice in choices])[:, self._places]
        index = (levels - 1).clamp_min(0)
        errors = self._errors[:, torch.arange(len(self._places)), index]
        losses = self._sum.losses(choices)[:, self._places]
        kept = torch.stack([levels.double(), levels / self._sizes])
        return self._facts.table, self._facts.reads, self._share, losses, kept, errors
