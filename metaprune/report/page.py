"""The report as one page that needs nothing else: no scripts, no fonts, no files."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from metaprune.report import markup, theme, words
from metaprune.report.ranking import by_target, interval, leaders, leading
from metaprune.report.schema import Report
from metaprune.report.sections.drawing import drawing, of_weights
from metaprune.report.sections.expected import expected
from metaprune.report.sections.recommendation import recommendation
from metaprune.report.sections.tradeoff import tradeoff
from metaprune.report.sections.transformed import transformed
from metaprune.report.table import rows


def page(report: Report) -> str:
    """The page, a function of the report alone."""
    return markup.fill(
        "report.html",
        title=escape(report.title),
        summary=_summary(report),
        recommendation=recommendation(report),
        tiles=_tiles(report),
        table=_table(report),
        tradeoff=tradeoff(report) if report.entries else "",
        budgets=_budgets(report),
        transformed=transformed(report),
        expected=expected(report),
        notes=_notes(report),
        provenance=_definitions(report.provenance),
        config=escape(json.dumps(report.config, indent=2, ensure_ascii=False)),
    )


def _summary(report: Report) -> str:
    """What came out, in a sentence or two."""
    parts = [
        f"The dense network reaches {words.metric(report.score, report.dense[report.score])} "
        f"{escape(report.score)} on the {escape(report.split)} split with "
        f"{words.count(report.cost['macs'])} MACs and {words.count(report.cost['params'])} "
        "parameters."
    ]
    for entries in by_target(report):
        best, *level = leaders(report, entries)
        value = words.metric(report.score, best.final[report.score])
        smaller = words.saved(best.achieved, report.cost["params"])
        leads = f", {escape(best.method)} leads" if len(entries) > 1 else ""
        if level:
            others = ", ".join(escape(one.method) for one in level)
            leads = f", {escape(best.method)} and {others} differ by no more than chance"
        # Methods that were asked for the same may differ in MACs.
        asked = escape(words.asked(best.asked) or "the pattern")
        after = " after finetuning" if best.after else ""
        parts.append(f"At {asked}{leads}: {value}{after} with {smaller}.")
    if report.examples and interval(report, report.dense) is not None:
        parts.append(
            f"Scores are of {report.examples:,} examples, dense ± "
            f"{words.metric(report.score, interval(report, report.dense) or 0.0)} (95 %), one seed."
        )
    return " ".join(parts)


def _tiles(report: Report) -> str:
    cost = report.cost
    figures = [
        ("dense " + report.score, words.metric(report.score, report.dense[report.score])),
        ("MACs", words.count(cost["macs"])),
        ("parameters", words.count(cost["params"])),
        ("size", f"{cost['size_mb']:.3g} MB"),
    ]
    if report.latency_ms is not None:
        figures.append(("latency", words.duration(report.latency_ms)))
    return markup.tiles(figures)


def _table(report: Report) -> str:
    header, body = rows(report)
    best = (False, *leading(report))
    lines, previous = [], None
    for row, entry, leads in zip(body, (None, *report.entries), best, strict=True):
        kinds = []
        if entry is not None and dict(entry.asked) != previous:
            kinds.append("first")
            previous = dict(entry.asked)
        if entry is None:
            kinds.append("dense")
        elif leads:
            kinds.append("best")
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        if entry is not None:
            index = report.methods.index(entry.method)
            chip = f'<td><i class="chip" style="background: {theme.series(index)}"></i>'
            cells = cells.replace("<td>", chip, 1)
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    return markup.table(header, lines)


AXES = (
    "A row is an axis: units that are cut together. An arc is a weight that reads one axis and "
    "produces another; dashed arcs lead back into an earlier one. Bars show the share that is kept."
)
WEIGHTS = "A row is a weight. Bars show the share of its numbers that is kept."


def _budgets(report: Report) -> str:
    """The network drawn with the budgets of every method, a section for each target."""
    sections = [f'<p class="muted">{WEIGHTS if of_weights(report) else AXES}</p>']
    groups = by_target(report) or [[]]
    for index, entries in enumerate(groups):
        asked = words.asked(entries[0].asked) if entries else "dense"
        sections.append(
            f"<details{' open' if index == 0 else ''}><summary>{escape(asked)}</summary>"
            f'<div class="scroll">{drawing(report, entries)}</div></details>'
        )
    return "\n".join(sections)


def _notes(report: Report) -> str:
    """Every remark once, with the entries it is about, and what is left alone."""
    about: dict[str, list[str]] = {}
    for entry in report.entries:
        for note in entry.notes:
            about.setdefault(note, []).append(f"{entry.method}, {words.asked(entry.asked)}")
    lines = []
    for note, entries in about.items():
        of = "" if len(entries) == len(report.entries) else f" ({'; '.join(entries)})"
        lines.append(f'{escape(note)}<span class="muted">{escape(of)}</span>')
    lines += [
        f"<code>{escape(node.name)}</code> is left alone: {escape(node.state)}."
        for node in report.nodes
        if node.frozen
    ]
    return markup.items(lines)


def _definitions(values: Any) -> str:
    if not isinstance(values, dict):
        return escape(str(values))
    return "<dl>{}</dl>".format(
        "".join(f"<dt>{escape(k)}</dt><dd>{_definitions(v)}</dd>" for k, v in values.items())
    )
