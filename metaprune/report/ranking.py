"""Which entries compete, which of them lead, and what a run recommends.

Whether one network is worse than another by more than chance was drawn when they were measured
(`Entry.behind`): 95 % of draws of the examples with replacement, the same for both, must agree.
Less than that is no lead. Where nothing was drawn, the better number leads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan

from metaprune.report.schema import Entry, Report
from metaprune.report.words import PERCENT

GIVEN_UP = 0.01
"""Of a share (accuracy), what may go for a smaller network to be recommended."""

WORSE = 0.05
"""Of any other score, the relative change that may be."""

DENSE = "dense"
"""What the network before pruning is called in `Entry.behind`."""


def by_target(report: Report) -> list[list[Entry]]:
    """Entries that were asked for the same, together, in order of first appearance."""
    groups: dict[str, list[Entry]] = {}
    for entry in report.entries:
        groups.setdefault(json.dumps(dict(entry.asked), sort_keys=True), []).append(entry)
    return list(groups.values())


def worse(report: Report, one: Entry, other: Entry | None) -> bool:
    """Whether a network is worse than another of its target by more than chance.

    Args:
        report: of both.
        one: the network.
        other: another; None for the dense one.
    """
    if one.interval is not None:
        return (DENSE if other is None else other.method) in one.behind
    there = (report.dense if other is None else other.final)[report.score]
    here = one.final[report.score]
    return there > here if report.higher_is_better else there < here


def leaders(report: Report, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that nobody beats by more than chance, after finetuning where there was one.

    Scores that are not a number lead only where there are no others.

    Returns:
        The best one and what ties with it, in order.
    """
    known = [entry for entry in entries if not isnan(entry.final[report.score])] or entries
    choose = max if report.higher_is_better else min
    best = choose(known, key=lambda entry: entry.final[report.score])
    return [entry for entry in known if entry is best or not worse(report, entry, best)]


def leading(report: Report) -> list[bool]:
    """For every entry whether it leads its target, where it leaves others behind."""
    best: set[int] = set()
    for group in by_target(report):
        first = leaders(report, group)
        if len(first) < len(group):
            best |= {id(entry) for entry in first}
    return [id(entry) in best for entry in report.entries]


def recommended(report: Report) -> Entry | None:
    """The network that was saved and that a reader should take; None where none was saved.

    The smallest of those that give up little of the dense score (`GIVEN_UP`, `WORSE`, or no more
    than chance); the best one where all give up more.
    """
    saved = [
        entry
        for entry in report.entries
        if entry.folder is not None and not isnan(entry.final[report.score])
    ]
    if not saved:
        return None
    near = [entry for entry in saved if gives_up_little(report, entry)]
    if near:
        return max(near, key=lambda e: (e.achieved["speedup"], e.achieved["sparsity"]))
    choose = max if report.higher_is_better else min
    return choose(saved, key=lambda entry: entry.final[report.score])


def gives_up_little(report: Report, entry: Entry) -> bool:
    """Whether a network is about as good as the dense one."""
    dense, score = report.dense[report.score], entry.final[report.score]
    lost = dense - score if report.higher_is_better else score - dense
    allowed = GIVEN_UP if report.score in PERCENT else WORSE * abs(dense)
    return lost <= allowed or not worse(report, entry, None)
