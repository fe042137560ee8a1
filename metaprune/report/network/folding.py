"""Layers with repeated blocks once: the rows of the drawing of a network.

Blocks are layers whose names share a path up to a number: `model.layers.0.`, `model.layers.1.`.
Neighbours are one where everything but that number is the same: the names inside, operators, costs,
and the axes that they share with the rest of the network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from metaprune.report.network.names import ranges
from metaprune.report.network.stops import Stop


def folded_blocks(stops: Sequence[Stop], axes: Mapping[str, Hashable]) -> list[Stop]:
    """Layers, those of repeated blocks once.

    Args:
        stops: in the order of the forward.
        axes: name → what makes two axes alike (size, kind, ...).
    """
    found = list(stops)
    deepest = max((stop.label.count(".") for stop in found), default=0)
    for depth in range(deepest + 1):
        found = _fold(found, depth, axes)
    return found


def _fold(found: Sequence[Stop], depth: int, axes: Mapping[str, Hashable]) -> list[Stop]:
    """Fold the blocks whose number stands at one depth of the name."""
    touched: dict[str, set[int]] = {}
    for i, stop in enumerate(found):
        for axis in (*stop.reads, *stop.writes):
            touched.setdefault(axis, set()).add(i)

    def block(item: tuple[int, Stop]) -> tuple[str, ...]:
        parts = _parts(item[1])
        numbered = len(parts) > depth and parts[depth].isdigit()
        return tuple(parts[: depth + 1]) if numbered else (str(item[0]), "")

    blocks = [list(items) for _, items in groupby(enumerate(found), block)]
    result: list[Stop] = []
    for _, alike in groupby(blocks, lambda items: _signature(items, depth, touched, axes)):
        same = list(alike)
        parts = _parts(same[0][0][1])
        if len(same) == 1 or len(parts) <= depth or not parts[depth].isdigit():
            result += [stop for items in same for _, stop in items]
            continue
        numbers = ranges(int(_parts(items[0][1])[depth]) for items in same)
        name = ".".join([*parts[:depth], numbers])
        for place, (_, stop) in enumerate(same[0]):
            path, space, operator = stop.label.partition(" ")
            label = ".".join([name, *path.split(".")[depth + 1 :]]) + space + operator
            members = tuple(m for items in same for m in items[place][1].members)
            result.append(replace(stop, label=label, members=members, block=stop.block or name))
    return result


def _parts(stop: Stop) -> list[str]:
    """The parts of a layer's path; what stands behind it, after a space, is no path."""
    return stop.label.partition(" ")[0].split(".")


def _signature(
    items: Sequence[tuple[int, Stop]],
    depth: int,
    touched: Mapping[str, set[int]],
    axes: Mapping[str, Hashable],
) -> Hashable:
    """Everything about a block but its number; axes that leave it by name, its own by order."""
    inside = {i for i, _ in items}
    own: dict[str, int] = {}

    def axis(name: str) -> Hashable:
        if not touched[name] <= inside:
            return name
        return own.setdefault(name, len(own)), axes.get(name)

    parts = []
    for _, stop in items:
        label = _parts(stop)
        parts.append(
            (
                tuple(label[:depth] + label[depth + 1 :]),
                (stop.alike, stop.times, stop.block),
                tuple(map(axis, stop.reads)),
                tuple(map(axis, stop.writes)),
            )
        )
    return tuple(parts)
