"""Written files are readable again."""

from __future__ import annotations

from metaprune.report import Report, write
from tests.metaprune.report.reports import report


def test_written_files_are_readable_again(tmp_path):
    found, shown = write(report(), tmp_path / "run")
    assert Report.from_json(found.read_text()).to_json() == report().to_json()
    assert shown.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in found.parent.iterdir()) == ["report.html", "report.json"]
