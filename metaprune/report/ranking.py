"""Which entries compete, and which of them lead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan

from metaprune.report.schema import Entry, Report


def by_target(report: Report) -> list[list[Entry]]:
    """Entries that were asked for the same, together, in order of first appearance."""
    groups: dict[str, list[Entry]] = {}
    for entry in report.entries:
        groups.setdefault(json.dumps(dict(entry.asked), sort_keys=True), []).append(entry)
    return list(groups.values())


def leaders(report: Report, entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose score nobody beats, after finetuning where there was one; in order.

    Scores that are not a number lead only where there are no others.
    """
    known = [entry for entry in entries if not isnan(entry.final[report.score])] or entries
    choose = max if report.higher_is_better else min
    best = choose(known, key=lambda entry: entry.final[report.score])
    top = best.final[report.score]
    return [entry for entry in known if entry is best or entry.final[report.score] == top]


def leading(report: Report) -> list[bool]:
    """For every entry whether it leads its target, where others were asked for the same."""
    best = {
        id(entry)
        for group in by_target(report)
        if len(group) > 1
        for entry in leaders(report, group)
    }
    return [id(entry) in best for entry in report.entries]
