"""The layer-level graph drawn: a row for every layer, a lane for every axis it joins.

Layers stand in the order of the forward. An axis is a vertical lane from the first layer that
touches it to the last; a filled dot makes its units, a ring reads them. A residual stream is the
long lane that many layers write to; what is inside of a block is short and next to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from metaprune.report import theme, words
from metaprune.report.markup import drawn_text

ROW, HEAD, PITCH, NARROW = 22, 34, 18, 520
BRACKET, LABEL, SIZES, BAR = 44, 170, 130, 120
LETTER = 6.6
"""Width of a letter of a label."""


@dataclass(frozen=True)
class Lane:
    """An axis: number of units, what they are, whether it is left alone, and a sentence on it."""

    size: int
    kind: str
    frozen: bool
    words: str


@dataclass(frozen=True)
class Stop:
    """A layer, or a block's layer that stands for several.

    Args:
        label: its name.
        title: a sentence, shown when pointed at.
        reads, writes: names of lanes.
        macs, params: of one of them.
        times: how many it stands for.
        block: rows in a row with the same text stand in one bracket.
    """

    label: str
    title: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int
    params: int
    times: int = 1
    block: str = ""


def lanes(stops: Sequence[Stop], axes: Mapping[str, Lane]) -> str:
    """An SVG element.

    Args:
        stops: in the order of the forward.
        axes: name → lane, for every name that a stop reads or writes.
    """
    spans = _spans(stops)
    places = _places(spans)
    count = max(places.values(), default=0) + 1
    pitch = max(4.0, min(PITCH, NARROW / count))
    left = BRACKET + 10.0
    xs = {name: left + pitch * (lane + 0.5) for name, lane in places.items()}
    text = left + pitch * count + 12
    label = max(LABEL, LETTER * max((len(s.label) + 5 for s in stops), default=0) + 16)
    width = text + label + SIZES + 2 * (BAR + 64)
    height = HEAD + ROW * len(stops) + 6
    columns = (text, text + label, text + label + SIZES, text + label + SIZES + BAR + 64)
    parts = [
        f'<svg class="drawing" role="img" aria-label="the layers of the network and the axes that '
        f'join them" viewBox="0 0 {width:.0f} {height}" style="min-width: {min(width, 900):.0f}px; '
        f'max-width: {width:.0f}px">'
    ]
    heads = ("layer", "reads → makes", "MACs", "parameters")
    parts += [
        drawn_text(x, HEAD - 16, head, "strong") for x, head in zip(columns, heads, strict=True)
    ]
    parts += [_brackets(stops)]
    parts += [
        _lane(name, axes[name], xs[name], *spans[name])
        for name in sorted(spans, key=lambda name: places[name])
    ]
    most = (max((s.macs for s in stops), default=0), max((s.params for s in stops), default=0))
    for row, stop in enumerate(stops):
        parts.append(_stop(stop, row, xs, axes, columns, most))
    return "\n".join([*parts, "</svg>"])


def legend(axes: Mapping[str, Lane]) -> str:
    """What the colours of the lanes stand for, as HTML."""
    found = {_colour(lane.kind): lane.kind for lane in axes.values() if not lane.frozen}
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


def _lane(name: str, lane: Lane, x: float, start: int, end: int) -> str:
    title = f"{name}: {lane.size} × {lane.kind}; {lane.words}"
    kind = "lane frozen" if lane.frozen else "lane"
    colour = "" if lane.frozen else f' style="stroke: {theme.series(_colour(lane.kind))}"'
    return (
        f'<path class="{kind}"{colour} d="M{x:.1f},{_y(start) - 5:.1f}V{_y(end) + 5:.1f}">'
        f"<title>{escape(title)}</title></path>"
    )


KINDS = ("channel", "feature", "head", "head feature", "expert", "unit")
"""Kinds of units, in the order of their colours; others share the last one."""


def _colour(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS) - 1


def _stop(
    stop: Stop,
    row: int,
    xs: Mapping[str, float],
    axes: Mapping[str, Lane],
    columns: tuple[float, ...],
    most: tuple[int, int],
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
        lane, made = axes[name], name in writes
        colour = theme.MUTED if lane.frozen else theme.series(_colour(lane.kind))
        fill = colour if made else theme.PAPER
        parts.append(
            f'<circle cx="{xs[name]:.1f}" cy="{y:.1f}" r="{4.2 if made else 3.6}" '
            f'style="fill: {fill}; stroke: {colour}"/>'
        )
    times = f" × {stop.times}" if stop.times > 1 else ""
    parts.append(drawn_text(columns[0], y, stop.label + times, ""))
    sizes = " → ".join(_sizes([axes[name].size for name in side]) for side in (reads, writes))
    parts.append(drawn_text(columns[1], y, sizes if len(sizes) < 20 else sizes[:18] + "…", "muted"))
    for x, value, whole in zip(columns[2:], (stop.macs, stop.params), most, strict=True):
        length = BAR * value / whole if whole else 0.0
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{y - 5:.1f}" width="{length:.1f}" height="10" '
            'rx="2"/>'
        )
        parts.append(drawn_text(x + length + 6, y, words.count(value) if value else "–", "muted"))
    parts.append(f"<title>{escape(stop.title)}</title></g>")
    return "".join(parts)


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
