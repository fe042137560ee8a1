"""What was done to the network before anything went, what it costs and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from metaprune.report import words
from metaprune.report.markup import items, table
from metaprune.report.schema import Report
from pruners.curves import in_words

ABOUT = (
    "The network is another one of the same function: its weights were turned or reordered so that "
    "fewer of them matter. Ways that were tried are judged by the divergence that pruning with "
    "equal shares leaves on calibration examples left out."
)
HEAD = ("method", "asked", "turned", "reordered", "more parameters", "divergence left")


def transformed(report: Report) -> str:
    """A table of what was done for every pruned network, and sentences; one where nothing was."""
    entries = [entry for entry in report.entries if entry.transform]
    if not entries:
        return '<p class="muted">The network was pruned as it was given.</p>'
    rows = []
    for entry in entries:
        found = entry.transform
        cells = (
            entry.method,
            words.asked(entry.asked),
            _axes(found.get("turned", {})),
            _axes(found.get("reordered", {})),
            f"{found.get('parameters', 0):,}",
            _judged(found),
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    notes = dict.fromkeys(note for entry in entries for note in entry.transform.get("notes", ()))
    return (
        f'<p class="muted">{ABOUT}</p><div class="scroll"><table>{table(HEAD, rows)}</table></div>'
        f"<ul>{items(map(escape, notes))}</ul>"
    )


def _axes(axes: Mapping[str, Any]) -> str:
    return {0: "none", 1: next(iter(axes), "")}.get(len(axes), f"{len(axes)} axes")


def _judged(found: Mapping[str, Any]) -> str:
    """Every way that was tried with what it left; where none was, nothing judged."""
    tried = found.get("tried", {})
    return ", ".join(f"{way} {in_words(lost)}" for way, lost in tried.items()) or "not judged"
