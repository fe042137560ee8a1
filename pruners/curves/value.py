"""Values of budgets: how much damage a choice of what stays is expected to do as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

from pruners.curves.curve import Curve

LEAST = 1e-12
"""Expected losses below are as good as none; their logarithm is finite."""


@runtime_checkable
class Value(Protocol):
    """What budgets are worth before any of them is carried out.

    A choice is what stays of every dial: units of an axis, weights of a tensor.
    """

    def losses(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """Expected loss of every dial by itself, (K, L), float64, at least `LEAST`."""

    def log_damage(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logarithm of the damage of all dials together, (K,), float64."""


class SumOfLosses:
    """Expected losses add up, which is right where little goes.

    Args:
        dials: names, in the order of choices.
        curves: dial → curve; dials without one cost nothing.
        whole: what a choice holds where all of a dial stays: the points of a curve are reached at
            `kept[-1] · level / whole`.
    """

    def __init__(
        self, dials: Sequence[str], curves: Mapping[str, Curve], whole: Sequence[int]
    ) -> None:
        self.dials = tuple(dials)
        self._curves, self._whole = curves, tuple(whole)
        self._known: dict[tuple[int, int], float] = {}

    def losses(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `Value`."""
        rows = [[self._at(place, level) for place, level in enumerate(c)] for c in choices]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(choices), len(self.dials))

    def log_damage(self, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `Value`."""
        return self.losses(choices).sum(1).log()

    def _at(self, place: int, level: int) -> float:
        if (place, level) not in self._known:
            curve = self._curves.get(self.dials[place])
            lost = 0.0
            if curve is not None:
                lost = curve.at(curve.kept[-1] * level / self._whole[place])
            self._known[place, level] = max(lost, LEAST)
        return self._known[place, level]
