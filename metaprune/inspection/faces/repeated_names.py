"""What repeats, said once: groups and modules that differ only in the numbers of their names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from metaprune.inspection.schema import Findings, Group, Module, Turning
from metaprune.report.network.names import folded, numberless

T = TypeVar("T")


@dataclass(frozen=True)
class Repeated(Generic[T]):
    """Things that are alike.

    Args:
        names: their names, folded: usually one, `layer1.0–8.conv1`.
        times: how many there are.
        first: one of them.
        all: every one of them.
    """

    names: tuple[str, ...]
    times: int
    first: T
    all: tuple[T, ...]

    @property
    def name(self) -> str:
        """The folded names in one line."""
        return ", ".join(self.names)


def groups(found: Findings) -> list[Repeated[Group]]:
    """Groups in order, those that are alike in everything but the numbers of their names as one."""
    return _alike(
        found.groups,
        lambda g: g.axis,
        lambda g: (g.units, g.kind, g.exactness, g.params_saved, g.macs_saved),
    )


def turning(found: Findings) -> list[Repeated[Turning]]:
    """Axes that may be turned, those that are alike as one."""
    return _alike(found.turning, lambda t: t.axis, lambda t: replace(t, axis=""))


def modules(found: Findings) -> list[Repeated[tuple[str, Module]]]:
    """Modules, those that are alike as one, the most MACs in all of them first."""
    alike = _alike(list(found.modules.items()), lambda item: item[0], lambda item: item[1])
    return sorted(alike, key=lambda r: (-r.times * r.first[1].macs, -r.times * r.first[1].params))


def joined(parts: Iterable[Iterable[str]]) -> list[str]:
    """Names of several things together, folded."""
    return folded(dict.fromkeys(name for part in parts for name in part))


def _alike(
    items: Sequence[T], name: Callable[[T], str], rest: Callable[[T], Hashable]
) -> list[Repeated[T]]:
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault((numberless(name(item)), rest(item)), []).append(item)
    return [
        Repeated(tuple(folded(map(name, same))), len(same), same[0], tuple(same))
        for same in found.values()
    ]
