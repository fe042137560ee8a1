"""Schedule "iterative": several prunings with recovery between them, each goes a bit further."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from graphs import Network
from graphs.tools.registry import unknown
from metaprune.patterns import Pattern
from metaprune.schedules.base import schedule
from metaprune.schedules.on_the_way import on_the_way
from pruners import Target

SPACINGS: Mapping[str, Callable[..., float]] = {
    # (share that stays in the end, place from 0 to 1) → share that stays there.
    "linear": lambda end, place: 1 - (1 - end) * place,
    "geometric": lambda end, place: end**place,
    "cubic": lambda end, place: end + (1 - end) * (1 - place) ** 3,
}


@schedule("iterative")
@dataclass(frozen=True)
class Iterative:
    r"""k prunings; the share r of the cost that stays falls to the asked one in k steps.

        linear: 1 − (1 − r) t     geometric: r^t     cubic: r + (1 − r)(1 − t)³      t = i / k

    Geometric steps take the same share of what is left each time (Han et al. 2015; Renda et al.
    2020, "Comparing Rewinding and Fine-tuning"), cubic ones take much first and little in the end
    (Zhu & Gupta 2017, "To prune, or not to prune", eq. 1).

    Args:
        steps: k, at least 1.
        spacing: "linear", "geometric" or "cubic".

    Raises:
        ValueError: fewer than one step, or an unknown spacing.
    """

    steps: int = 3
    spacing: str = "geometric"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int):
            raise ValueError(f"schedule.iterative.steps takes a whole number (got {self.steps!r})")
        if self.steps < 1:
            raise ValueError(f"schedule.iterative.steps must be 1 or more (got {self.steps!r})")
        if self.spacing not in SPACINGS:
            raise ValueError(unknown("schedule.iterative.spacing", self.spacing, SPACINGS))

    def targets(
        self, net: Network, target: Target | None, pattern: Pattern
    ) -> Sequence[Target | None]:
        """See `metaprune.schedules.base.Schedule`."""
        spaced = SPACINGS[self.spacing]
        places = [i / self.steps for i in range(1, self.steps + 1)]
        shares = [partial(spaced, place=place) for place in places]
        return on_the_way(net, target, pattern, shares)
