"""The network drawn with what every method leaves of it, a drawing for each target.

Rows are weights, lanes the axes that join them, and blocks that repeat are drawn once. A bar is the
share that is kept: of the units of the axis that a weight is the first to make, or, where weights
got masks or factors, of the numbers of the weight. Where a row stands for several layers, each of
them has a small column of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.network.folding import folded_blocks
from metaprune.report.network.lanes import lanes
from metaprune.report.network.stops import Column, Lane, Stop
from metaprune.report.ranking import by_target
from metaprune.report.schema import Entry, Layer, Report

BAR, COLUMN, TALL, THICK = 104, 172, 16, 10

FORMS = {"mask": "sparse", "factors": "low rank", "mask and factors": "sparse + low rank"}
"""What took the place of a weight → how the page says it, where not all weights are alike."""


def budgets(report: Report) -> Markup:
    """The section, as HTML."""
    groups = by_target(report) or [[]]
    forms = {layer.form for entry in report.entries for layer in entry.layers} - {""}
    return markup.render(
        "sections/budgets.html",
        of_weights=of_weights(report),
        forms=sorted(forms),
        moved=any(_moved(entry) for entry in report.entries),
        drawings=[
            (
                words.asked(entries[0].asked) if entries else "dense",
                Markup(drawing(report, entries)),
            )
            for entries in groups
        ],
    )


def of_weights(report: Report) -> bool:
    """Whether the budgets of a report are shares of weights, not units of axes."""
    axes = {node.name for node in report.nodes}
    return any(layer.name not in axes for entry in report.entries for layer in entry.layers)


def drawing(report: Report, entries: Sequence[Entry]) -> str:
    """An SVG element: weights as rows, axes as lanes, what every method keeps as bars.

    Args:
        report: with nodes and edges.
        entries: one a method, at one target; a column of bars each.
    """
    axes = _axes(report)
    stops, shown = _stops(report, entries)
    like = {name: (lane.size, lane.kind, lane.frozen) for name, lane in axes.items()}
    columns = [
        _column(entry, theme.series(report.methods.index(entry.method)), shown) for entry in entries
    ]
    return lanes(folded_blocks(stops, like), axes, columns, coloured=False)


def _axes(report: Report) -> dict[str, Lane]:
    return {
        node.name: Lane(
            node.size,
            node.kind,
            node.frozen,
            f"left alone: {node.state}" if node.frozen else node.state,
        )
        for node in report.nodes
    }


def _stops(report: Report, entries: Sequence[Entry]) -> tuple[list[Stop], list[tuple[str, ...]]]:
    """A row for every weight, and the names of the layers whose shares stand in it.

    Axes and weights that no edge of the outline tells of have rows of their own, behind.
    """
    reads: dict[str, dict[str, None]] = {}
    writes: dict[str, dict[str, None]] = {}
    for edge in report.edges:
        reads.setdefault(edge.name, {}).update({edge.source: None} if edge.source else {})
        writes.setdefault(edge.name, {})[edge.target] = None
    weights = of_weights(report)
    sizes = {layer.name: layer.of for entry in entries for layer in entry.layers}
    moved = {name: how for entry in entries for name, how in _moved(entry).items()}
    stops: list[Stop] = []
    shown: list[tuple[str, ...]] = []
    made: set[str] = set()
    for name in writes:
        first = tuple(axis for axis in writes[name] if axis not in made)
        made.update(first)
        marks = "".join(sorted({moved[axis] for axis in first if axis in moved}))
        label = f"{name} {marks}".rstrip()
        members = (len(stops),)
        alike = (sizes.get(name), marks)
        made_of = ", ".join(reads[name]) or "the input"
        title = f"{name}: reads {made_of}, makes {', '.join(writes[name])}"
        sides = (tuple(reads[name]), tuple(writes[name]))
        stops.append(Stop(label, title, *sides, members, alike))
        shown.append((name,) if weights else first)
    lane = {node.name for node in report.nodes}
    for name in sizes:
        if name not in made and name not in writes:
            touches = (name,) if name in lane else ()
            stops.append(Stop(name, name, (), touches, (len(stops),), sizes[name]))
            shown.append((name,))
    return stops, shown


def _moved(entry: Entry) -> dict[str, str]:
    """Axis → what was done to it before anything went: turned ↻ or reordered ⇅."""
    found = dict.fromkeys(entry.transform.get("reordered", ()), "⇅")
    return found | dict.fromkeys(entry.transform.get("turned", ()), "↻")


def _column(entry: Entry, colour: str, shown: Sequence[tuple[str, ...]]) -> Column:
    kept = {layer.name: layer for layer in entry.layers}

    def draw(stop: Stop, x: float, y: float) -> str:
        found = [_together(kept, shown[member]) for member in stop.members]
        layers = [layer for layer in found if layer is not None]
        if not layers:
            return ""
        bars = _bar(layers[0], x, y, colour) if len(layers) == 1 else _bars(layers, x, y, colour)
        share = sum(layer.kept for layer in layers) / max(1, sum(layer.of for layer in layers))
        text = f'<text class="share" x="{x + BAR + 6:.1f}" y="{y + 4:.1f}">{100 * share:.0f} %'
        return f"<g>{bars}{text}</text></g>"

    return Column(entry.method, COLUMN, draw)


def _together(kept: Mapping[str, Layer], names: Sequence[str]) -> Layer | None:
    """The layers of a row as one; None where nothing is known of them."""
    found = [kept[name] for name in names if name in kept]
    if not found:
        return None
    return Layer(
        ", ".join(layer.name for layer in found),
        sum(layer.of for layer in found),
        sum(layer.kept for layer in found),
        found[0].form,
    )


def _title(layers: Sequence[Layer]) -> str:
    told = "\n".join(
        f"{layer.name}: {layer.kept} of {layer.of} kept"
        + (f", {FORMS[layer.form]}" if layer.form else "")
        for layer in layers
    )
    return f"<title>{escape(told)}</title>"


def _bar(layer: Layer, x: float, y: float, colour: str) -> str:
    """One layer: a solid bar for units, a dashed one for a mask, two thin ones for factors."""
    length = max(BAR * layer.kept / max(1, layer.of), 1.5)
    dashed = ' stroke-dasharray="2.5 1.5"' if layer.form.startswith("mask") else ""
    two = layer.form.endswith("factors")
    lines = [(-3.0, 4.0), (3.0, 4.0)] if two else [(0.0, float(THICK))]
    return (
        f'{_title([layer])}<rect class="track" x="{x:.1f}" y="{y - THICK / 2:.1f}" width="{BAR}" '
        f'height="{THICK}" rx="2"/>'
    ) + "".join(
        f'<path class="kept" d="M{x:.1f},{y + shift:.1f}h{length:.1f}"{dashed} '
        f'style="stroke: {colour}; stroke-width: {thick:g}"/>'
        for shift, thick in lines
    )


def _bars(layers: Sequence[Layer], x: float, y: float, colour: str) -> str:
    """Several layers: a column each, as high as its share."""
    pitch = min(14.0, BAR / len(layers))
    gap = 1.0 if pitch > 3 else 0.0
    bottom = y + TALL / 2
    dashed = ' stroke-dasharray="2.5 1.5"' if layers[0].form.startswith("mask") else ""
    parts = [
        _title(layers),
        f'<rect class="track" x="{x:.1f}" y="{y - TALL / 2:.1f}" width="{pitch * len(layers):.1f}" '
        f'height="{TALL}"/>',
    ]
    for i, layer in enumerate(layers):
        height = max(TALL * layer.kept / max(1, layer.of), 0.8)
        parts.append(
            f'<path class="kept" d="M{x + pitch * (i + 0.5):.1f},{bottom:.1f}v-{height:.1f}"'
            f'{dashed} style="stroke: {colour}; stroke-width: {pitch - gap:.2f}"/>'
        )
    return "".join(parts)
