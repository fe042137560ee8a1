"""The forward with repeated blocks once: the rows of the drawing of a network.

Blocks are layers whose names share a path up to a number: `model.layers.0.`, `model.layers.1.`.
Neighbours are one where everything but that number is the same: the names inside, operators, costs,
and the axes that they share with the rest of the network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from metaprune.inspection.faces.names import ranges
from metaprune.inspection.schema import Layer


@dataclass(frozen=True)
class Row:
    """A layer, or one of several that are alike.

    Args:
        label: its name, with the range of numbers of its block.
        layer: the layer, the first of those that are alike.
        times: how many there are.
        block: what repeats it, outermost; "" outside of one.
    """

    label: str
    layer: Layer
    times: int = 1
    block: str = ""


def unfolded(layers: Sequence[Layer]) -> list[Row]:
    """A row for every layer."""
    return [Row(layer.name, layer) for layer in layers]


def rows(layers: Sequence[Layer], axes: Mapping[str, Hashable]) -> list[Row]:
    """Rows with repeated blocks once.

    Args:
        layers: in the order of the forward.
        axes: name → what makes two axes alike (size, kind, ...).
    """
    found = unfolded(layers)
    deepest = max((row.label.count(".") for row in found), default=0)
    for depth in range(deepest + 1):
        found = _fold(found, depth, axes)
    return found


def _fold(found: Sequence[Row], depth: int, axes: Mapping[str, Hashable]) -> list[Row]:
    """Fold the blocks whose number stands at one depth of the name."""
    touched: dict[str, set[int]] = {}
    for i, row in enumerate(found):
        for axis in (*row.layer.reads, *row.layer.writes):
            touched.setdefault(axis, set()).add(i)

    def block(item: tuple[int, Row]) -> tuple[str, ...]:
        parts = _parts(item[1])
        numbered = len(parts) > depth and parts[depth].isdigit()
        return tuple(parts[: depth + 1]) if numbered else (str(item[0]), "")

    blocks = [list(items) for _, items in groupby(enumerate(found), block)]
    result: list[Row] = []
    for _, alike in groupby(blocks, lambda items: _signature(items, depth, touched, axes)):
        same = list(alike)
        parts = _parts(same[0][0][1])
        if len(same) == 1 or len(parts) <= depth or not parts[depth].isdigit():
            result += [row for items in same for _, row in items]
            continue
        numbers = ranges(int(_parts(items[0][1])[depth]) for items in same)
        name = ".".join([*parts[:depth], numbers])
        for _, row in same[0]:
            path, space, operator = row.label.partition(" ")
            label = ".".join([name, *path.split(".")[depth + 1 :]]) + space + operator
            result.append(
                replace(row, label=label, times=row.times * len(same), block=row.block or name)
            )
    return result


def _parts(row: Row) -> list[str]:
    """The parts of a row's path; what stands behind it, after a space, is no path."""
    return row.label.partition(" ")[0].split(".")


def _signature(
    items: Sequence[tuple[int, Row]],
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
    for _, row in items:
        label, layer = _parts(row), row.layer
        parts.append(
            (
                tuple(label[:depth] + label[depth + 1 :]),
                (layer.operator, layer.macs, layer.params, row.times, row.block),
                tuple(map(axis, layer.reads)),
                tuple(map(axis, layer.writes)),
            )
        )
    return tuple(parts)
