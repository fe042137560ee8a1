"""Schedules: how many prunings lead to a target, and how far each of them goes, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from graphs import Network
from graphs.tools.registry import Registry
from metaprune.patterns import Pattern
from pruners import Target
from training.config import arguments


class Schedule(Protocol):
    """A way to a target.

    The law: the last target is the one that was asked for.
    """

    def targets(
        self, net: Network, target: Target | None, pattern: Pattern
    ) -> Sequence[Target | None]:
        """The target of every pruning in turn, each for what the one before it gave.

        Args:
            net: the network before all of them.
            target: what is asked in the end; None where the pattern leaves no choice.
            pattern: what goes.

        Raises:
            ValueError: the pattern cannot be pruned in such steps; says why.
        """


SCHEDULES: Registry[Callable[..., Schedule]] = Registry("schedule")
"""Name → what makes the schedule from its options."""

schedule = SCHEDULES.register


def parse(asked: str | Mapping[str, Any]) -> Schedule:
    """The schedule of a name, or of {name: options}.

    Raises:
        ValueError: an unknown name or option.
    """
    if isinstance(asked, str):
        return SCHEDULES.find(asked)()
    if len(asked) != 1 or not isinstance(next(iter(asked.values())), Mapping | None):
        raise ValueError(
            'schedule is a name such as "iterative", or a name with options such as '
            f'{{"iterative": {{"steps": 3}}}} (got {dict(asked)!r})'
        )
    name, options = next(iter(asked.items()))
    make = SCHEDULES.find(str(name))
    return make(**arguments(make, options or {}, f"schedule.{name}"))
