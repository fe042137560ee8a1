"""The network drawn: a row for every axis, an arc for every weight, and what each method leaves.

Weights that read an earlier axis and produce a later one arc on the left side close to the rows;
those that lead back (into a residual stream) are dashed. Where methods leave shares of weights
instead of units, a row is a weight, without arcs.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from metaprune.report import theme, words
from metaprune.report.markup import drawn_text
from metaprune.report.schema import Edge, Entry, Node, Report

ROW, HEAD, BAR, GAP = 22, 30, 150, 18
MAX_ARC = 150
LABEL = 250


def drawing(report: Report, entries: Sequence[Entry]) -> str:
    """An SVG element: axes as rows, weights as arcs (or weights as rows), kept shares as bars.

    Args:
        report: with nodes and edges.
        entries: one a method, at one target; a column of bars each.
    """
    nodes: list[Node] = []
    edges: Sequence[Edge] = ()
    if of_weights(report):
        found = {layer.name: layer.of for entry in entries for layer in entry.layers}
        nodes = [Node(name, of, "numbers", "stored", False) for name, of in found.items()]
    else:
        edges = report.edges
        outside = [Node("", 0, "", "", True)] if any(not e.source for e in edges) else []
        nodes = [*outside, *report.nodes]
    place = {node.name: index for index, node in enumerate(nodes)}
    arcs = _arcs(edges, place)
    reach = max((width for _, _, width in arcs), default=0)
    left = reach + 16
    width = left + LABEL + len(entries) * (BAR + GAP) + 24
    height = HEAD + ROW * len(nodes) + 8
    parts = [
        f'<svg class="drawing" role="img" aria-label="the network" viewBox="0 0 {width} {height}" '
        f'style="min-width: {min(width, 900)}px; max-width: {width}px">'
    ]
    parts += [_arc(edge, place, span, left) for edge, _, span in arcs]
    parts += [_row(node, index, left) for index, node in enumerate(nodes)]
    for column, entry in enumerate(entries):
        x = left + LABEL + column * (BAR + GAP)
        colour = theme.series(report.methods.index(entry.method))
        parts.append(drawn_text(x, HEAD - 12, entry.method, "strong"))
        kept = {layer.name: layer for layer in entry.layers}
        parts += [
            _bar(x, _y(index), kept[node.name].of, kept[node.name].kept, colour, node.name)
            for index, node in enumerate(nodes)
            if node.name in kept
        ]
    return "\n".join([*parts, "</svg>"])


def of_weights(report: Report) -> bool:
    """Whether the budgets of a report are shares of weights, not units of axes."""
    axes = {node.name for node in report.nodes}
    return any(layer.name not in axes for entry in report.entries for layer in entry.layers)


def _y(index: int) -> float:
    return HEAD + ROW * index + ROW / 2


def _arcs(edges: Sequence[Edge], place: dict[str, int]) -> list[tuple[Edge, int, int]]:
    """(edge, rows it spans, how far its arc reaches), long ones first so that short ones show."""
    found = []
    for edge in edges:
        start, end = place[edge.source], place[edge.target]
        rows = abs(end - start)
        # Arcs that lead back reach a little further, so that they do not hide the ones forward.
        found.append((edge, rows, min(MAX_ARC, 10 + 7 * rows) + 5 * (end <= start)))
    return sorted(found, key=lambda arc: -arc[1])


def _arc(edge: Edge, place: dict[str, int], reach: int, left: float) -> str:
    start, end = place[edge.source], place[edge.target]
    y0, y1 = _y(start), _y(end)
    x = left - 6
    back = end <= start
    title = f"{edge.name}: {edge.source or 'input'} → {edge.target}"
    curve = f"M{x:.0f},{y0:.1f} C{x - reach:.0f},{y0:.1f} {x - reach:.0f},{y1:.1f} {x:.0f},{y1:.1f}"
    return (
        f'<path class="arc{" back" if back else ""}" d="{curve}">'
        f"<title>{escape(title)}</title></path>"
    )


def _row(node: Node, index: int, left: float) -> str:
    y = _y(index)
    if not node.name:
        return _dot(left, y, 4, theme.MUTED, "input of the model") + drawn_text(
            left + 12, y, "input", "muted"
        )
    colour = theme.MUTED if node.frozen else theme.INK
    radius = 3 + min(5.0, node.size**0.5 / 4)
    told = f"{node.name}: {node.size} × {node.kind}; " + (
        f"left alone: {node.state}" if node.frozen else node.state
    )
    name = node.name if len(node.name) <= 30 else "…" + node.name[-29:]
    return (
        _dot(left, y, radius, colour, told)
        + drawn_text(left + 12, y, name, "muted" if node.frozen else "")
        + drawn_text(left + LABEL - 14, y, _short(node.size), "number")
    )


def _short(size: int) -> str:
    """A number in four characters or so, beside a long name."""
    return str(size) if size < 10_000 else words.count(size)


def _dot(x: float, y: float, radius: float, colour: str, title: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" style="fill: {colour}">'
        f"<title>{escape(title)}</title></circle>"
    )


def _bar(x: float, y: float, of: int, kept: int, colour: str, name: str) -> str:
    share = kept / of if of else 0.0
    inside = BAR - 46
    return (
        f"<g><title>{escape(name)}: {kept} of {of} kept</title>"
        f'<rect class="track" x="{x}" y="{y - 5:.1f}" width="{inside}" height="10" rx="3"/>'
        f'<rect x="{x}" y="{y - 5:.1f}" width="{max(share * inside, 1.5):.1f}" height="10" rx="3" '
        f'style="fill: {colour}"/>'
        f'<text class="share" x="{x + inside + 6}" y="{y + 4:.1f}">{100 * share:.0f} %</text></g>'
    )
