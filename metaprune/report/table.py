"""The report on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from metaprune.report import words
from metaprune.report.ranking import leading, recommended
from metaprune.report.schema import Entry, Report
from metaprune.report.sections.recommendation import sentences


def shrinks(report: Report) -> bool:
    """Whether any network has fewer MACs; masks leave shapes as they are, and MACs with them."""
    return any(entry.achieved["speedup"] > 1 for entry in report.entries)


def rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the results table, the dense network first.

    Returns:
        Column titles, and a row of texts for the dense network and for each entry, in order.
    """
    score = report.score
    saved = "speed-up" if shrinks(report) else "sparsity"
    header = ["method", saved, "MACs", "parameters", "latency", score]
    if report.finetuned:
        header[-1:] = [f"{score}, one-shot", f"{score}, finetuned"]
    cost = report.cost
    dense = [
        "dense",
        "1.00×" if shrinks(report) else "0 %",
        words.count(cost["macs"]),
        words.count(cost["params"]),
        words.duration(report.latency_ms),
        words.metric(score, report.dense[score]),
    ]
    if report.finetuned:
        dense.append("")
    return header, [dense, *(_row(report, entry) for entry in report.entries)]


def _row(report: Report, entry: Entry) -> list[str]:
    achieved, score = entry.achieved, report.score
    row = [
        entry.method,
        f"{achieved['speedup']:.2f}×" if shrinks(report) else f"{100 * achieved['sparsity']:.3g} %",
        words.count(achieved["macs"]),
        words.count(achieved["params"]),
        words.duration(entry.latency_ms),
        words.metric(score, entry.before[score]),
    ]
    if report.finetuned:
        row.append(words.metric(score, entry.after[score]) if entry.after else "-")
    return row


def print_table(report: Report, console: Console | None = None) -> None:
    """Print the results table, the best of each target in bold."""
    console = console or Console()
    header, body = rows(report)
    table = Table(title=f"{report.title}, {report.split} split", title_justify="left")
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right")
    best = (False, *leading(report))
    previous: dict[str, Any] | None = None
    for row, entry, leads in zip(body, (None, *report.entries), best, strict=True):
        asked = dict(entry.asked) if entry else None
        if asked != previous:
            table.add_section()
        previous = asked
        table.add_row(*row, style="bold" if leads else None)
    console.print(table)
    entry = recommended(report)
    for sentence in [] if entry is None else sentences(report, entry):
        console.print(sentence, highlight=False, markup=False)
