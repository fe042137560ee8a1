"""What was done to the network before anything went, what it costs and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from metaprune.report import markup, words
from metaprune.report.schema import Report
from pruners.curves import in_words

HEAD = ("method", "asked", "turned", "reordered", "more parameters", "divergence left")


def transformed(report: Report) -> Markup:
    """A table of what was done for every pruned network, and sentences; one where nothing was."""
    entries = [entry for entry in report.entries if entry.transform]
    rows = [
        markup.Row(
            (
                entry.method,
                words.asked(entry.asked),
                _axes(entry.transform.get("turned", {})),
                _axes(entry.transform.get("reordered", {})),
                f"{entry.transform.get('parameters', 0):,}",
                _judged(entry.transform),
            )
        )
        for entry in entries
    ]
    notes = dict.fromkeys(note for entry in entries for note in entry.transform.get("notes", ()))
    return markup.render("sections/transformed.html", head=HEAD, rows=rows, notes=list(notes))


def _axes(axes: Mapping[str, Any]) -> str:
    return {0: "none", 1: next(iter(axes), "")}.get(len(axes), f"{len(axes)} axes")


def _judged(found: Mapping[str, Any]) -> str:
    """Every way that was tried with what it left; where none was, nothing judged."""
    tried = found.get("tried", {})
    return ", ".join(f"{way} {in_words(lost)}" for way, lost in tried.items()) or "not judged"
