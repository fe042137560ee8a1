"""The layer-level graph drawn: a row for every layer, a lane for every axis it joins.

Layers stand in the order of the forward. An axis is a vertical lane from the first layer that
touches it to the last; a filled dot makes its units, a ring reads them. A residual stream is the
long lane that many layers write to; what is inside of a block is short and next to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from metaprune.report import theme
from metaprune.report.markup import drawn_text
from metaprune.report.network.stops import Column, Lane, Stop

ROW, HEAD, PITCH, NARROW = 22, 34, 18, 520
BRACKET, LABEL, SIZES = 44, 170, 130
LETTER = 6.6
"""Width of a letter of a label."""


def lanes(
    stops: Sequence[Stop],
    axes: Mapping[str, Lane],
    columns: Sequence[Column] = (),
    *,
    coloured: bool = True,
) -> str:
    """An SVG element.

    Args:
        stops: in the order of the forward.
        axes: name → lane, for every name that a stop reads or writes.
        columns: what stands beside names and sizes.
        coloured: whether kinds of units have colours; not where columns have them.
    """
    spans = _spans(stops)
    places = _places(spans)
    count = max(places.values(), default=0) + 1
    pitch = max(4.0, min(PITCH, NARROW / count))
    left = BRACKET + 10.0
    xs = {name: left + pitch * (lane + 0.5) for name, lane in places.items()}
    text = left + pitch * count + 12
    label = max(LABEL, LETTER * max((len(s.label) + 5 for s in stops), default=0) + 16)
    edges = [text + label + SIZES]
    for column in columns:
        edges.append(edges[-1] + column.width)
    width, height = edges[-1], HEAD + ROW * len(stops) + 6
    parts = [
        f'<svg class="drawing" role="img" aria-label="the layers of the network and the axes that '
        f'join them" viewBox="0 0 {width:.0f} {height}" style="min-width: {min(width, 900):.0f}px; '
        f'max-width: {width:.0f}px">'
    ]
    heads = zip(
        (text, text + label, *edges),
        ("layer", "reads → makes", *(column.head for column in columns)),
        strict=False,
    )
    parts += [drawn_text(x, HEAD - 16, head, "strong") for x, head in heads]
    parts += [_brackets(stops)]
    parts += [
        _lane(name, axes[name], xs[name], *spans[name], _colour(axes[name], coloured))
        for name in sorted(spans, key=lambda name: places[name])
    ]
    for row, stop in enumerate(stops):
        beside = [column.draw(stop, x, _y(row)) for column, x in zip(columns, edges, strict=False)]
        colours = {name: _colour(axes[name], coloured) for name in (*stop.reads, *stop.writes)}
        parts.append(_stop(stop, row, xs, axes, colours, (text, text + label), "".join(beside)))
    return "\n".join([*parts, "</svg>"])


def legend(axes: Mapping[str, Lane]) -> str:
    """What the colours of the lanes stand for, as HTML."""
    found = {_kind(lane): lane.kind for lane in axes.values() if not lane.frozen}
    return " ".join(
        f'<span class="muted"><i class="chip" style="background: {theme.series(colour)}"></i>'
        f"{escape(kind)}</span>"
        for colour, kind in sorted(found.items())
    )


def _y(row: int) -> float:
    return HEAD + ROW * (row + 0.5)


def _spans(stops: Sequence[Stop]) -> dict[str, tuple[int, int]]:
    """Lane → first and last row that touch it."""
    spans: dict[str, tuple[int, int]] = {}
    for row, stop in enumerate(stops):
        for name in (*stop.reads, *stop.writes):
            spans[name] = (spans.get(name, (row, row))[0], row)
    return spans


def _places(spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Lane → place from the left, the first that is free; long ones before short ones."""
    ends: list[int] = []
    places = {}
    for name, (start, end) in sorted(spans.items(), key=lambda s: (s[1][0], -s[1][1])):
        free = next((i for i, last in enumerate(ends) if last < start), len(ends))
        ends[free : free + 1] = [end]
        places[name] = free
    return places


def _lane(name: str, lane: Lane, x: float, start: int, end: int, colour: str) -> str:
    title = f"{name}: {lane.size} × {lane.kind}; {lane.words}"
    kind = "lane frozen" if lane.frozen else "lane"
    return (
        f'<path class="{kind}" style="stroke: {colour}" '
        f'd="M{x:.1f},{_y(start) - 5:.1f}V{_y(end) + 5:.1f}">'
        f"<title>{escape(title)}</title></path>"
    )


KINDS = ("channel", "feature", "head", "head feature", "expert", "unit")
"""Kinds of units, in the order of their colours; others share the last one."""


def _kind(lane: Lane) -> int:
    return KINDS.index(lane.kind) if lane.kind in KINDS else len(KINDS) - 1


def _colour(lane: Lane, coloured: bool) -> str:
    if lane.frozen:
        return theme.MUTED
    return theme.series(_kind(lane)) if coloured else theme.INK


def _stop(
    stop: Stop,
    row: int,
    xs: Mapping[str, float],
    axes: Mapping[str, Lane],
    colours: Mapping[str, str],
    columns: tuple[float, float],
    beside: str,
) -> str:
    y = _y(row)
    passing = {n for n in stop.reads if n in stop.writes and axes[n].frozen}
    reads, writes = (
        [name for name in side if name not in passing] for side in (stop.reads, stop.writes)
    )
    places = [xs[name] for name in (*reads, *writes)]
    parts = ['<g class="stop">']
    if places:
        parts.append(
            f'<path class="joint" d="M{min(places):.1f},{y:.1f}H{max(places):.1f}"/>'
            f'<path class="leader" d="M{max(places) + 8:.1f},{y:.1f}H{columns[0] - 6:.1f}"/>'
        )
    for name in dict.fromkeys((*reads, *writes)):
        made, colour = name in writes, colours[name]
        fill = colour if made else theme.PAPER
        parts.append(
            f'<circle cx="{xs[name]:.1f}" cy="{y:.1f}" r="{4.2 if made else 3.6}" '
            f'style="fill: {fill}; stroke: {colour}"/>'
        )
    times = f" × {stop.times}" if stop.times > 1 else ""
    parts.append(drawn_text(columns[0], y, stop.label + times, ""))
    sizes = " → ".join(_sizes([axes[name].size for name in side]) for side in (reads, writes))
    parts.append(drawn_text(columns[1], y, sizes if len(sizes) < 20 else sizes[:18] + "…", "muted"))
    return "".join([*parts, beside, f"<title>{escape(stop.title)}</title></g>"])


def _sizes(found: Sequence[int]) -> str:
    """`16·8·8`, `24·3(×7)`: numbers of units, many alike once."""
    runs = [(size, len(list(same))) for size, same in groupby(found)]
    return "·".join(f"{n}(×{k})" if k > 2 else "·".join([str(n)] * k) for n, k in runs) or "–"


def _brackets(stops: Sequence[Stop]) -> str:
    """A bracket around the rows of every block that stands for several."""
    parts = []
    for block, items in groupby(enumerate(stops), lambda item: item[1].block):
        found = list(items)
        if not block:
            continue
        top, bottom = _y(found[0][0]) - 8, _y(found[-1][0]) + 8
        times = min(stop.times for _, stop in found)
        parts.append(
            f'<path class="bracket" d="M{BRACKET},{top:.1f}h-5V{bottom:.1f}h5"/>'
            f'<text class="number" x="{BRACKET - 9}" y="{(top + bottom) / 2 + 4:.1f}">'
            f"×{times}</text>"
        )
    return "".join(parts)
