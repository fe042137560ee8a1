"""Who leads: the best score in its direction, ties together, and never what is not a number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaprune.report.ranking import by_target, leaders, leading
from tests.metaprune.report.reports import report


@pytest.mark.parametrize(("higher", "scores", "expected"), [
    (True, (0.5, 0.7), [1]),
    (False, (0.5, 0.7), [0]),
    (True, (0.7, 0.7), [0, 1]),
    (True, (float("nan"), 0.1), [1]),
])  # fmt: skip
def test_the_best_leads(higher, scores, expected):
    found = report(finetuned=False, higher=higher)
    entries = [
        replace(entry, before={"accuracy": score})
        for entry, score in zip(by_target(found)[0], scores, strict=True)
    ]
    assert leaders(found, entries) == [entries[i] for i in expected]


def test_nobody_leads_alone():
    found = report()
    assert leading(found) == [True, False, True, False]
    alone = replace(found, entries=found.entries[:1])
    assert leading(alone) == [False]


def test_where_all_tie_nobody_leads():
    found = report(finetuned=False)
    level = [replace(entry, before={"accuracy": 0.8}) for entry in found.entries]
    assert leading(replace(found, entries=tuple(level))) == [False] * 4
    drawn = [replace(entry, interval=(0.0, 1.0)) for entry in found.entries]
    assert leading(replace(found, entries=tuple(drawn))) == [False] * 4  # behind nobody
    behind = [replace(entry, behind=("metanet",) * (i % 2)) for i, entry in enumerate(drawn)]
    assert leading(replace(found, entries=tuple(behind))) == [True, False, True, False]
