"""An inspection as one page that needs nothing else: no scripts, no fonts, no files."""

from __future__ import annotations

from html import escape

from graphs.tools.words import counted
from metaprune.inspection.faces import repeated_layers, repeated_names, sentences
from metaprune.inspection.faces.lanes import Lane, Stop, lanes, legend
from metaprune.inspection.faces.names import folded
from metaprune.inspection.schema import Alone, Findings, Turning
from metaprune.report import markup, words
from metaprune.report.sections.expected import curves

MOST_ROWS = 400
"""Layers of the whole drawing; longer networks are drawn with repeated blocks once only."""


def page(found: Findings) -> str:
    """The page, a function of the inspection alone."""
    return markup.fill(
        "inspection.html",
        title=escape(found.model),
        summary=escape(sentences.summary(found)),
        tiles=_tiles(found),
        groups=_groups(found),
        exactness=markup.items(
            f"<b>{escape(kind)}</b> ({entry['groups']}): {escape(entry['meaning'])}"
            for kind, entry in found.exactness.items()
        ),
        alone=markup.items(map(_alone, found.left_alone)) or "<li>nothing</li>",
        turning=markup.items(map(_turning, repeated_names.turning(found))) or "<li>nothing</li>",
        not_turning=markup.items(map(_alone, found.not_turning)) or "<li>nothing</li>",
        least=escape(sentences.least(found)),
        reachable=_reachable(found),
        drawing=_drawing(found),
        expected=_expected(found),
        modules=_modules(found),
        check=escape(sentences.check(found)),
        differences=markup.items(
            f"<code>{escape(d.module or '(top)')}</code>: {d.macs:,} here, {d.torch_macs:,} by "
            f"torch; {escape(d.why)}"
            for d in found.check.differences
        ),
        notes=markup.items(map(escape, found.notes)) or "<li>none</li>",
    )


def _tiles(found: Findings) -> str:
    cost, reach = found.cost, found.reachable
    figures = [
        ("MACs, one example", words.count(cost["macs"])),
        ("parameters", words.count(cost["params"])),
        ("size", words.size(cost["size_mb"])),
        ("groups to prune", f"{len(found.groups):,}"),
        ("speed-up in MACs, up to", f"{reach['speedup'][1]:.3g}×"),
    ]
    return markup.tiles(figures)


def _groups(found: Findings) -> str:
    lines = []
    for row in repeated_names.groups(found):
        group = row.first
        made = repeated_names.joined(g.made_by for g in row.all)
        read = repeated_names.joined(g.read_by for g in row.all)
        each = f" each, × {row.times}" if row.times > 1 else ""
        name = "; ".join(sentences.shortened(row.names, 3))
        lines.append(
            f"<tr><td class='wide'><code>{escape(name)}</code><br>"
            f"<span class='muted'>{escape(sentences.flow(made, read, 5))}</span></td>"
            f"<td>{escape(sentences.units(group.units, group.kind) + each)}</td>"
            f"<td>{words.count(group.params_saved)}</td><td>{words.count(group.macs_saved)}</td>"
            f"<td>{len(group.slices)}</td><td>{escape(group.exactness)}</td></tr>"
        )
    head = ("group", "units", "parameters a unit", "MACs a unit", "slices cut", "exactness")
    return f"<table>{markup.table(head, lines)}</table>"


def _alone(one: Alone) -> str:
    names = ", ".join(f"<code>{escape(n)}</code>" for n in sentences.shortened(folded(one.axes), 8))
    return f"{names}: {escape(sentences.reason(one))}"


def _turning(row: repeated_names.Repeated[Turning]) -> str:
    name = "; ".join(sentences.shortened(row.names, 3))
    return f"<code>{escape(name)}</code>: {escape(sentences.turns(row.first, row.times))}"


def _reachable(found: Findings) -> str:
    lines = [
        f"<tr><td>{escape(sentences.label(name))}</td>"
        + "".join(f"<td>{escape(sentences.amount(found, name, end))}</td>" for end in ends)
        + "</tr>"
        for name, ends in found.reachable.items()
    ]
    return f"<table>{markup.table(('target', 'from', 'to'), lines)}</table>"


def _expected(found: Findings) -> str:
    parts = []
    for what, head in sentences.EXPECTED.items():
        drawn = {name: {"curve": curve} for name, curve in found.expected.get(what, {}).items()}
        if not drawn:
            continue
        lines = [
            f"<tr><td class='wide'><code>{escape(name)}</code></td>"
            + "".join(f"<td>{each}</td>" for each in losses)
            + "</tr>"
            for name, losses in sentences.losses(found, what)
        ]
        parts.append(
            f"<h3>{head}</h3>{curves(drawn)}<details><summary>{counted(len(lines), 'curve')}"
            f"</summary><table>{markup.table((head, *sentences.AT), lines)}</table></details>"
        )
    said = sentences.expected(found)
    return f'<p class="muted">{escape(said)}</p>' + "".join(parts)


def _modules(found: Findings) -> str:
    total = max(1, found.cost["macs"])
    lines = []
    for row in repeated_names.modules(found):
        path, module = row.first
        by_torch = "–" if module.torch_macs is None else words.count(module.torch_macs)
        name = "; ".join(sentences.shortened(row.names, 3)) if path else "(top)"
        kind = module.kind + (f" × {row.times}" if row.times > 1 else "")
        lines.append(
            f"<tr><td class='wide'><code>{escape(name)}</code> "
            f"<span class='muted'>{escape(kind)}</span></td><td>{words.count(module.macs)}</td>"
            f"<td>{by_torch}</td><td>{100 * row.times * module.macs / total:.1f} %</td>"
            f"<td>{words.count(module.params)}</td></tr>"
        )
    head = ("module", "MACs each", "by torch's counter", "of all MACs", "parameters each")
    return f"<table>{markup.table(head, lines)}</table>"


def _drawing(found: Findings) -> str:
    axes = _axes(found)
    like = {name: (lane.size, lane.kind, lane.frozen, lane.words) for name, lane in axes.items()}
    short = repeated_layers.rows(found.layers, like)
    parts = [
        f'<p class="legend">{legend(axes)}</p>'
        f'<div class="scroll">{lanes(list(map(_stop, short)), axes)}</div>'
    ]
    if len(short) < len(found.layers) <= MOST_ROWS:
        whole = lanes(list(map(_stop, repeated_layers.unfolded(found.layers))), axes)
        parts.append(
            f"<details><summary>every layer ({len(found.layers)})</summary>"
            f'<div class="scroll">{whole}</div></details>'
        )
    return "\n".join(parts)


def _stop(row: repeated_layers.Row) -> Stop:
    layer = row.layer
    title = f"{layer.name}: {layer.operator}" + (f" at {layer.place}" if layer.place else "")
    return Stop(
        row.label, title, layer.reads, layer.writes, layer.macs, layer.params, row.times, row.block
    )


def _axes(found: Findings) -> dict[str, Lane]:
    exactness = {group.axis: group.exactness for group in found.groups}
    return {
        node["id"]: Lane(
            node["size"],
            node["units"],
            bool(node["frozen"]),
            f"left alone: {node['frozen']}" if node["frozen"] else exactness[node["id"]],
        )
        for node in found.graph["nodes"]
        if node["kind"] == "axis"
    }
