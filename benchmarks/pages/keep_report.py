"""Keep what the picture of README.md needs of a run as a record.

    python -m benchmarks.pages.keep_report ResNet-20 RUN/report.json

The record has figures, versions and machine; settings, which name the folders of whoever ran it,
drawings of the network and remarks stay behind.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.pages.records import CIFAR10
from graphs.tools.files import write_text
from metaprune.report import Report


def kept(report: Report) -> Report:
    """The report with its figures alone."""
    entries = tuple(
        replace(entry, layers=(), notes=(), expected={}, folder=None) for entry in report.entries
    )
    return replace(report, entries=entries, nodes=(), edges=(), config={})


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in CIFAR10:
        sys.exit(f"{__doc__}\nTitles: {', '.join(CIFAR10)}")
    _, title, path = sys.argv
    found = Report.from_json(Path(path).read_text(encoding="utf-8"))
    write_text(CIFAR10[title], kept(found).to_json())
