"""The demo compares methods over seeds, by draws that are the same for all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from metaprune.cli.commands.demo import differences, table
from metaprune.report import Report
from tests.metaprune.report.reports import report


def test_a_report_for_every_seed_and_one_over_all(run):
    code, out, errors = run(
        "demo", "seeds=[1,2]", "fit.epochs=1", "fit.progress=false", "data.train_size=100",
        "data.noise=0", "calibration.examples=32", "latency.batch_size=0", "compare=[uniform]",
        "budget=global", "hydra.run.dir=demo", "target.sparsity=0.5",
        "model.options={blocks: [1], widths: [8], shortcut: pad, inner: 1.0, act: relu}",
    )  # fmt: skip
    assert code == 0, errors
    reports = [Report.from_json(Path(f"demo/seed={s}/report.json").read_text()) for s in (1, 2)]
    assert reports[0].dense != reports[1].dense
    assert "means of 2 seeds" in out
    assert "global and uniform at sparsity 0.5" in " ".join(out.split())
    page = Path("demo/report.html").read_text()
    assert "Over seeds" in page
    assert "seed=2/report.html" in page


def test_what_differs_by_chance_is_said():
    found = replace(report(finetuned=False), examples=100)
    draws = torch.rand(200, 5, generator=torch.Generator().manual_seed(0)) / 100
    ahead = draws + torch.tensor([0.9, 0.9, 0.5, 0.7, 0.7])
    first, second = differences(found, ahead)
    assert "at speedup 2.0 differ: the first is ahead by 39" in first
    assert "at speedup 4.0 differ by no more than chance" in second
    assert table("T", [found, found], ahead).row_count == 5
