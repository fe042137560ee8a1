"""Schedule "one-shot": one pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs import Network
from metaprune.patterns import Pattern
from metaprune.schedules.base import schedule
from pruners import Target


@schedule("one-shot")
@dataclass(frozen=True)
class OneShot:
    """Everything goes at once."""

    def targets(
        self, net: Network, target: Target | None, pattern: Pattern
    ) -> Sequence[Target | None]:
        """See `metaprune.schedules.base.Schedule`."""
        return [target]
