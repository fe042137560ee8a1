"""Curves: what a tensor or an axis loses at every budget it may get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, log
from typing import Any

import torch

SHOWN = 24
"""Points of a curve in a plan or a report."""


@dataclass(frozen=True)
class Curve:
    """Expected loss over what stays: never rising, and 0 where all stays.

    Args:
        kept: what stays, ascending, the last one all of it: shares of a tensor, units of an axis,
            ranks of a matrix.
        losses: expected loss at each, in the unit of the predictions' divergence.
    """

    kept: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def of(cls, kept: Sequence[float], losses: Sequence[float]) -> Curve:
        """The smallest curve above these points that never rises and ends at 0."""
        falling = list(accumulate([0.0, *reversed([max(0.0, x) for x in losses[:-1]])], max))
        return cls(tuple(kept), tuple(reversed(falling)))

    def at(self, kept: float) -> float:
        """Loss between points: their logarithms are taken to be linear; below the first, its own.

        Where a loss is 0 there is no logarithm, and the loss itself is taken to be linear.
        """
        if kept <= self.kept[0]:
            return self.losses[0]
        for i in range(1, len(self.kept)):
            if kept <= self.kept[i]:
                break
        else:
            return self.losses[-1]
        (x0, x1), (y0, y1) = self.kept[i - 1 : i + 1], self.losses[i - 1 : i + 1]
        share = (kept - x0) / (x1 - x0)
        if y1 > 0:
            return exp((1 - share) * log(y0) + share * log(y1))
        return (1 - share) * y0 + share * y1

    def sampled(self, kept: Sequence[float]) -> list[float]:
        """Losses at these points."""
        return [self.at(x) for x in kept]

    def slopes(self) -> torch.Tensor:
        """What each further step is worth on the lower convex hull, (len(kept) − 1,), falling.

        The step from `kept[i]` to `kept[i + 1]` is worth at least this much for each unit kept; a
        budget that buys the steepest steps first is the best one for its price.
        """
        hull: list[int] = []
        for i in range(len(self.kept)):
            while len(hull) > 1 and self._slope(hull[-2], hull[-1]) <= self._slope(hull[-1], i):
                hull.pop()
            hull.append(i)
        found = torch.empty(len(self.kept) - 1, dtype=torch.float64)
        for first, last in pairwise(hull):
            found[first:last] = self._slope(first, last)
        return found

    def _slope(self, first: int, last: int) -> float:
        return (self.losses[first] - self.losses[last]) / (self.kept[last] - self.kept[first])

    def to_json(self) -> dict[str, list[float]]:
        """At most `SHOWN` of its points as plain values, to six digits."""
        last = len(self.kept) - 1
        steps = min(last, SHOWN - 1) or 1
        places = sorted({round(i * last / steps) for i in range(steps + 1)})
        return {
            "kept": [float(f"{self.kept[i]:.6g}") for i in places],
            "losses": [float(f"{self.losses[i]:.6g}") for i in places],
        }


@dataclass(frozen=True)
class Prediction:
    """What a budget was expected to cost when it was divided.

    Args:
        curves: name → curve of a tensor or an axis.
        kept: name → what stays of it.
    """

    curves: Mapping[str, Curve]
    kept: Mapping[str, float]

    @property
    def losses(self) -> dict[str, float]:
        """Name → expected loss."""
        return {name: curve.at(self.kept[name]) for name, curve in self.curves.items()}

    @property
    def total(self) -> float:
        """Their sum: the expected divergence of a prediction."""
        return sum(self.losses.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values for plans and reports: `total`, and `layers` by name."""
        losses = self.losses
        return {
            "total": float(f"{self.total:.6g}"),
            "layers": {
                name: {
                    "kept": float(f"{self.kept[name]:.6g}"),
                    "loss": float(f"{losses[name]:.6g}"),
                    "curve": curve.to_json(),
                }
                for name, curve in self.curves.items()
            },
        }
