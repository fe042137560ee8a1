"""An inspection as one page that needs nothing else: no scripts, no fonts, no files."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from metaprune.inspection.faces import repeated_names, sentences
from metaprune.inspection.schema import Alone, Findings, Layer, Turning
from metaprune.report import markup, words
from metaprune.report.network.folding import folded_blocks
from metaprune.report.network.lanes import lanes, legend
from metaprune.report.network.names import folded
from metaprune.report.network.stops import Column, Lane, Stop
from metaprune.report.sections.expected import curves

MOST_ROWS = 400
"""Layers of the whole drawing; longer networks are drawn with repeated blocks once only."""

BAR, COLUMN = 120, 184

NAMED = Markup("<code>{}</code>: {}")
NAMED_TWICE = Markup('<code>{}</code><br><span class="muted">{}</span>')
NAMED_BESIDE = Markup('<code>{}</code> <span class="muted">{}</span>')


def page(found: Findings) -> str:
    """The page, a function of the inspection alone."""
    axes = _axes(found)
    short, whole = _drawings(found, axes)
    return markup.whole_page(
        "inspection.html",
        maker="metaprune inspect",
        title=found.model,
        summary=sentences.summary(found),
        tiles=_tiles(found),
        legend=Markup(legend(axes)),
        drawing=short,
        whole=whole,
        layers=len(found.layers),
        groups=_groups(found),
        exactness=[
            Markup("<b>{}</b> ({}): {}").format(kind, entry["groups"], entry["meaning"])
            for kind, entry in found.exactness.items()
        ],
        alone=list(map(_alone, found.left_alone)),
        turning=list(map(_turning, repeated_names.turning(found))),
        not_turning=list(map(_alone, found.not_turning)),
        least=sentences.least(found),
        reachable=_reachable(found),
        said=sentences.expected(found),
        expected=_expected(found),
        at=sentences.AT,
        modules=_modules(found),
        check=sentences.check(found),
        differences=[
            Markup("<code>{}</code>: {:,} here, {:,} by torch; {}").format(
                d.module or "(top)", d.macs, d.torch_macs, d.why
            )
            for d in found.check.differences
        ],
        notes=found.notes,
    )


def _tiles(found: Findings) -> list[tuple[str, str]]:
    cost, reach = found.cost, found.reachable
    return [
        ("MACs, one example", words.count(cost["macs"])),
        ("parameters", words.count(cost["params"])),
        ("size", words.size(cost["size_mb"])),
        ("groups to prune", f"{len(found.groups):,}"),
        ("speed-up in MACs, up to", f"{reach['speedup'][1]:.3g}×"),
    ]


def _groups(found: Findings) -> list[markup.Row]:
    lines = []
    for row in repeated_names.groups(found):
        group = row.first
        made = repeated_names.joined(g.made_by for g in row.all)
        read = repeated_names.joined(g.read_by for g in row.all)
        each = f" each, × {row.times}" if row.times > 1 else ""
        name = "; ".join(sentences.shortened(row.names, 3))
        lines.append(
            markup.Row(
                (
                    NAMED_TWICE.format(name, sentences.flow(made, read, 5)),
                    sentences.units(group.units, group.kind) + each,
                    words.count(group.params_saved),
                    words.count(group.macs_saved),
                    str(len(group.slices)),
                    group.exactness,
                ),
                "named",
            )
        )
    return lines


def _alone(one: Alone) -> Markup:
    names = Markup(", ").join(
        Markup("<code>{}</code>").format(name) for name in sentences.shortened(folded(one.axes), 8)
    )
    return Markup("{}: {}").format(names, sentences.reason(one))


def _turning(row: repeated_names.Repeated[Turning]) -> Markup:
    name = "; ".join(sentences.shortened(row.names, 3))
    return NAMED.format(name, sentences.turns(row.first, row.times))


def _reachable(found: Findings) -> list[markup.Row]:
    return [
        markup.Row((sentences.label(name), *(sentences.amount(found, name, end) for end in ends)))
        for name, ends in found.reachable.items()
    ]


def _expected(found: Findings) -> list[tuple[str, Markup, list[markup.Row]]]:
    """For axes and for weights: what they are called, their curves, and the figures."""
    parts = []
    for what, head in sentences.EXPECTED.items():
        drawn = {name: {"curve": curve} for name, curve in found.expected.get(what, {}).items()}
        if not drawn:
            continue
        lines = [
            markup.Row((Markup("<code>{}</code>").format(name), *map(str, losses)), "named")
            for name, losses in sentences.losses(found, what)
        ]
        parts.append((head, curves(drawn), lines))
    return parts


def _modules(found: Findings) -> list[markup.Row]:
    total = max(1, found.cost["macs"])
    lines = []
    for row in repeated_names.modules(found):
        path, module = row.first
        by_torch = "–" if module.torch_macs is None else words.count(module.torch_macs)
        name = "; ".join(sentences.shortened(row.names, 3)) if path else "(top)"
        kind = module.kind + (f" × {row.times}" if row.times > 1 else "")
        lines.append(
            markup.Row(
                (
                    NAMED_BESIDE.format(name, kind),
                    words.count(module.macs),
                    by_torch,
                    f"{100 * row.times * module.macs / total:.1f} %",
                    words.count(module.params),
                ),
                "named",
            )
        )
    return lines


def _drawings(found: Findings, axes: dict[str, Lane]) -> tuple[Markup, Markup | None]:
    """The network with repeated blocks once, and whole where that is more and not too much."""
    like = {name: (lane.size, lane.kind, lane.frozen, lane.words) for name, lane in axes.items()}
    every = [_stop(layer, place) for place, layer in enumerate(found.layers)]
    short = folded_blocks(every, like)
    whole = None
    if len(short) < len(every) <= MOST_ROWS:
        whole = Markup(lanes(every, axes, _columns(found.layers)))
    return Markup(lanes(short, axes, _columns(found.layers))), whole


def _stop(layer: Layer, place: int) -> Stop:
    title = f"{layer.name}: {layer.operator}" + (f" at {layer.place}" if layer.place else "")
    alike = (layer.operator, layer.macs, layer.params)
    return Stop(layer.name, title, layer.reads, layer.writes, (place,), alike)


def _columns(layers: Sequence[Layer]) -> list[Column]:
    """Bars of the MACs and the parameters of a layer, or of each that a row stands for."""

    def column(head: str, costs: Sequence[int]) -> Column:
        most = max(costs, default=0)

        def draw(stop: Stop, x: float, y: float) -> str:
            cost = costs[stop.members[0]]
            length = BAR * cost / most if most else 0.0
            told = words.count(cost) if cost else "–"
            return (
                f'<rect class="bar" x="{x:.1f}" y="{y - 5:.1f}" width="{length:.1f}" height="10" '
                f'rx="2"/>{markup.drawn_text(x + length + 6, y, told, "muted")}'
            )

        return Column(head, COLUMN, draw)

    return [
        column("MACs", [layer.macs for layer in layers]),
        column("parameters", [layer.params for layer in layers]),
    ]


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
