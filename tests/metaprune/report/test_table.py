"""The table marks the best of each target."""

from __future__ import annotations

import io

from rich.console import Console

from metaprune.report import print_table, rows
from tests.metaprune.report.reports import report


def test_table_marks_the_best_of_each_target():
    header, body = rows(report())
    assert header[-2:] == ["accuracy, one-shot", "accuracy, finetuned"]
    assert len(body) == 5
    assert body[1][0] == "metanet"
    assert body[1][1] == "2.00×"
    console = Console(record=True, width=120, force_terminal=True, file=io.StringIO())
    print_table(report(), console)
    text = console.export_text(styles=True)
    bold = [line for line in text.splitlines() if "\x1b[1m" in line and "metanet" in line]
    assert len(bold) == 2
