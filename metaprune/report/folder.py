"""A report on disk."""

from __future__ import annotations

from pathlib import Path

from graphs.tools.files import write_text
from metaprune.report.pages.report import page
from metaprune.report.schema import Report


def write(report: Report, folder: str | Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`, each whole or not at all; return their paths."""
    json_path, html_path = Path(folder) / "report.json", Path(folder) / "report.html"
    write_text(json_path, report.to_json())
    write_text(html_path, page(report))
    return json_path, html_path
