"""Budgets in whole units: what a pattern can keep of several tensors, never above what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import floor

import torch

from pruners.budgets.problems.projection import bounds
from pruners.solvers.zeros import MaskPattern
from pruners.targets import UnreachableTargetError

CLOSE, ROUNDING = 1e-9, 1e-12
"""A level that is missed by this, or by this share of it, is met: shares are floating point."""


def allowance(density: float, size: int) -> int:
    """Numbers that may stay when a share of `size` is asked: the share, rounded down.

    A product that misses a whole number by the rounding of float64 is that number.
    """
    exact = density * size
    return min(size, max(0, floor(exact * (1 + ROUNDING) + 1e-6)))


@dataclass(frozen=True)
class Levels:
    """The whole numbers of units that may stay of several tensors.

    Args:
        names: of the tensors, for messages.
        whole: units that each of them divides into.
        steps: numbers that one unit of each stores.
        fewest, most: units that each keeps at least, and at most.
        unit: of what they are, in the plural, for messages.
    """

    names: tuple[str, ...]
    whole: tuple[int, ...]
    steps: tuple[int, ...]
    fewest: tuple[int, ...]
    most: tuple[int, ...]
    unit: str = "weights"

    @classmethod
    def of(
        cls,
        pattern: MaskPattern,
        shapes: Mapping[str, tuple[int, int]],
        lower: float | Mapping[str, float] = 0.0,
        upper: float | Mapping[str, float] = 1.0,
    ) -> Levels:
        """The levels of a pattern of masks.

        Args:
            pattern: of the masks.
            shapes: tensor name → (rows, columns) of its matrix view.
            lower: smallest kept share of a tensor, one for all or by name.
            upper: largest kept share of a tensor, likewise.

        Raises:
            ValueError: a shape that the pattern does not divide, or bounds between which a tensor
                has no level.
        """
        names = tuple(shapes)
        for name, (rows, columns) in shapes.items():
            if (why := pattern.refusal(rows, columns)) is not None:
                raise ValueError(f'weight "{name}": {why}; leave it out of the budget')
        whole = tuple(pattern.levels(*shape) for shape in shapes.values())
        steps = tuple(r * c // k for (r, c), k in zip(shapes.values(), whole, strict=True))
        size = torch.tensor(whole, dtype=torch.float64)
        low = (bounds(lower, names, 0.0) * size * (1 - ROUNDING) - CLOSE).ceil().long()
        high = (bounds(upper, names, 1.0) * size * (1 + ROUNDING) + CLOSE).floor().long()
        fewest = low.clamp_min(pattern.least).tolist()
        most = torch.minimum(high, size.long()).tolist()
        for name, least, all_, k in zip(names, fewest, most, whole, strict=True):
            if least > all_:
                raise ValueError(
                    f'pattern {pattern} keeps whole multiples of 1/{k} of "{name}", at least '
                    f"{pattern.least}/{k}, and none of them lies within its bounds; widen them"
                )
        return cls(names, whole, steps, tuple(fewest), tuple(most), f"units of {pattern}")

    @property
    def sizes(self) -> list[int]:
        """Numbers of each tensor when nothing goes."""
        return [k * step for k, step in zip(self.whole, self.steps, strict=True)]

    def stored(self, kept: Sequence[int]) -> int:
        """Numbers that stay with so many units."""
        return sum(k * step for k, step in zip(kept, self.steps, strict=True))

    def check(self, total: int) -> None:
        """Refuse a budget below the fewest units.

        Raises:
            UnreachableTargetError: with the reachable range.
        """
        least, size = self.stored(self.fewest), sum(self.sizes)
        if total < least:
            raise UnreachableTargetError(
                f"a budget of {total} of {size} numbers is less than the fewest {self.unit} store, "
                f"{least}: ask for a kept share from {_up(least / size):.6g} to "
                f"{self.stored(self.most) / size:.6g}, or choose another pattern"
            )

    def shares(self, kept: Sequence[int]) -> dict[str, float]:
        """Tensor name → kept share, from which `round(share · levels)` is the level again."""
        return {n: k / all_ for n, k, all_ in zip(self.names, kept, self.whole, strict=True)}

    def nearest(self, shares: torch.Tensor | Sequence[float], total: int) -> list[int]:
        """Whole units near these shares that store at most `total` numbers.

        Shares are rounded down, then units are given out by the largest remainder (ties in order)
        while any fits. So never more than `total` numbers stay, and no tensor could take one more
        unit: of all tensors with room, the smallest step is larger than what is left. Where steps
        are single weights the total is met exactly.

        Args:
            shares: kept share of each tensor.
            total: numbers that may stay altogether.

        Returns:
            Units that stay of each tensor, from `fewest` to `most`.

        Raises:
            UnreachableTargetError: a total below the fewest units, with what is reachable.
        """
        self.check(total)
        whole = torch.tensor(self.whole, dtype=torch.float64)
        share = torch.as_tensor(shares, dtype=torch.float64).detach().cpu()
        exact = (share * whole).tolist()
        kept = [
            min(max(floor(x * (1 + ROUNDING) + CLOSE), low), high)
            for x, low, high in zip(exact, self.fewest, self.most, strict=True)
        ]
        left = total - self.stored(kept)
        if left < 0:
            left = self._take(kept, exact, left)
        order = [(k - x, i) for i, (k, x) in enumerate(zip(kept, exact, strict=True))]
        heapify(order)
        while order and left > 0:
            _, i = heappop(order)
            if kept[i] < self.most[i] and self.steps[i] <= left:
                kept[i] += 1
                left -= self.steps[i]
                heappush(order, (kept[i] - exact[i], i))
        return kept

    def _take(self, kept: list[int], exact: Sequence[float], left: int) -> int:
        """Take units back, first where rounding gave the most, until the budget holds."""
        order = [(x - k, i) for i, (k, x) in enumerate(zip(kept, exact, strict=True))]
        heapify(order)
        while left < 0:
            _, i = heappop(order)
            if kept[i] > self.fewest[i]:
                kept[i] -= 1
                left += self.steps[i]
                heappush(order, (exact[i] - kept[i], i))
        return left


def _up(share: float) -> float:
    """A share that stays reachable when it is written with six digits."""
    return min(1.0, share * (1 + 1e-6))
