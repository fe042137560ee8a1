"""A report survives JSON, and a broken one is refused."""

from __future__ import annotations

import pytest

from metaprune.report import Report
from tests.metaprune.report.reports import report


def test_json_round_trip():
    assert Report.from_json(report().to_json()).to_json() == report().to_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ('{"format": 99}', "not a report of format 1"),
        (report().to_json().replace('"latency_ms"', '"lag"'), "has no 'lag'"),
        (report().to_json().replace('"title": "A <network>",', ""), "incomplete"),
    ],
)
def test_broken_json_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Report.from_json(text)
