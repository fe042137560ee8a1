"""The report as one page that needs nothing else: no scripts, no fonts, no files."""

from __future__ import annotations

import json

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.network.names import folded
from metaprune.report.ranking import by_target, leaders, leading
from metaprune.report.schema import Report
from metaprune.report.sections.budgets import budgets
from metaprune.report.sections.expected import expected
from metaprune.report.sections.recommendation import recommendation
from metaprune.report.sections.tradeoff import tradeoff
from metaprune.report.sections.transformed import transformed
from metaprune.report.table import rows


def page(report: Report) -> str:
    """The page, a function of the report alone."""
    head, lines = _table(report)
    return markup.whole_page(
        "report.html",
        maker="metaprune",
        title=report.title,
        made_by=report.provenance.get("command"),
        when=report.provenance.get("date"),
        summary=_summary(report),
        recommendation=recommendation(report),
        tiles=_tiles(report),
        head=head,
        rows=lines,
        tradeoff=tradeoff(report),
        budgets=budgets(report),
        transformed=transformed(report),
        expected=expected(report),
        notes=_notes(report),
        provenance=report.provenance,
        config=json.dumps(report.config, indent=2, ensure_ascii=False),
    )


def _summary(report: Report) -> str:
    """What came out, in a sentence or two."""
    parts = [
        f"The dense network reaches {words.metric(report.score, report.dense[report.score])} "
        f"{report.score} on the {report.split} split with "
        f"{words.count(report.cost['macs'])} MACs and {words.count(report.cost['params'])} "
        "parameters."
    ]
    for entries in by_target(report):
        best, *level = leaders(report, entries)
        value = words.metric(report.score, best.final[report.score])
        smaller = words.saved(best.achieved, report.cost["params"])
        leads = f", {best.method} leads" if len(entries) > 1 else ""
        if level:
            others = ", ".join(one.method for one in level)
            leads = f", {best.method} and {others} differ by no more than chance"
        # Methods that were asked for the same may differ in MACs.
        asked = words.asked(best.asked) or "the pattern"
        after = " after finetuning" if best.after else ""
        parts.append(f"At {asked}{leads}: {value}{after} with {smaller}.")
    if report.examples and report.interval is not None:
        parts.append(
            f"Scores are of {report.examples:,} examples; as many drawn with replacement give the "
            f"dense network {words.within(report.score, report.interval)} in 95 % of draws. One "
            "seed."
        )
    return " ".join(parts)


def _tiles(report: Report) -> list[tuple[str, str]]:
    cost = report.cost
    figures = [
        ("dense " + report.score, words.metric(report.score, report.dense[report.score])),
        ("MACs", words.count(cost["macs"])),
        ("parameters", words.count(cost["params"])),
        ("size", f"{cost['size_mb']:.3g} MB"),
    ]
    if report.latency_ms is not None:
        figures.append(("latency", words.duration(report.latency_ms)))
    return figures


def _table(report: Report) -> tuple[list[str], list[markup.Row]]:
    """Head and rows of the results; a line above each target, what leads it in bold."""
    head, (dense, *body) = rows(report)
    known = report.interval is not None
    lines = [
        markup.Row([*dense, *([words.within(report.score, report.interval)] * known)], "dense")
    ]
    previous = None
    for row, entry, leads in zip(body, report.entries, leading(report), strict=True):
        kinds = ["first"] * (dict(entry.asked) != previous) + ["best"] * leads
        previous = dict(entry.asked)
        colour = theme.series(report.methods.index(entry.method))
        sure = [words.within(report.score, entry.interval)] * known
        lines.append(markup.Row([*row, *sure], " ".join(kinds), colour))
    return [*head, *(["95 % of draws"] * known)], lines


def _notes(report: Report) -> list[markup.Row]:
    """Every remark once, with the entries it is about, and what is left alone."""
    about: dict[str, list[str]] = {}
    for entry in report.entries:
        for note in entry.notes:
            about.setdefault(note, []).append(f"{entry.method}, {words.asked(entry.asked)}")
    lines = [
        (note, "all" if len(entries) == len(report.entries) else "; ".join(entries))
        for note, entries in about.items()
    ]
    alone: dict[str, list[str]] = {}
    for node in report.nodes:
        if node.frozen:
            alone.setdefault(node.state, []).append(node.name)
    lines += [
        (Markup("<code>{}</code> left alone: {}.").format(", ".join(folded(names)), why), "dense")
        for why, names in alone.items()
    ]
    return [markup.Row(line, "prose") for line in lines]
