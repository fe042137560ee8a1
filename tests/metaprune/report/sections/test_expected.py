"""What was expected and what was lost are on different scales, and stand apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaprune.report.sections.expected import expected
from tests.metaprune.report.reports import report

LAYERS = {"a": {"kept": 2.0, "loss": 0.5, "curve": {"kept": [1, 2, 3], "losses": [2.0, 0.5, 0.0]}}}


@pytest.mark.parametrize("lost", [None, 0.0123])
def test_they_share_no_row(lost):
    found = {"total": 0.75, "layers": LAYERS, "lost": lost}
    entries = tuple(replace(entry, expected=found) for entry in report().entries)
    shown = expected(replace(report(), entries=entries))
    rows = shown.split("<tr>")
    assert any("0.75" in row for row in rows)
    assert any("0.0123" in row for row in rows) == (lost is not None)
    assert not any("0.75" in row and "0.0123" in row for row in rows)


def test_without_any_it_is_said():
    assert "No budget was divided by expected loss" in expected(report())
