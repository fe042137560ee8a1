"""Sweeps: short names, points that fail alone, one summary."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from metaprune.cli.sweep import LONGEST, short

SMALL = [
    "compare=[]", "latency.batch_size=0", "evaluate.limit=50", "calibration.examples=32",
    "save=false", "hydra.sweep.dir=sweep",
    "model.options={blocks: [1], widths: [8], shortcut: pad, inner: 1.0, act: relu}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", ""),
        ("target.speedup=1.5,seed=2", "-speedup=1.5-seed=2"),
        ("pattern=2:4", "-pattern=2_4"),
        ("target.macs=[50%,25%]", "-macs=_50%-25%"),
        ("+data.path=/a/b", "-path=_a_b"),
    ],
)
def test_names_are_short_and_safe(overrides, name):
    assert short(overrides) == name


@pytest.mark.parametrize("length", [1, 300])
def test_names_fit_into_every_file_system(length):
    name = short(f"model.path={'x/ü ' * length}")
    assert len(name) <= LONGEST + 1
    assert re.fullmatch(r"[\w.=%-]*", name)


def test_a_point_that_fails_ends_no_others(run):
    code, out, errors = run("prune", "-m", "target.speedup=1.5,1e7,2", "seed=0", *SMALL)
    assert code == 1
    assert "out of reach" in errors
    assert "Traceback" not in out + errors
    assert "2 of 3 points done" in out
    names = sorted(folder.name for folder in Path("sweep").iterdir() if folder.is_dir())
    assert names == ["0-speedup=1.5", "1-speedup=10000000.0", "2-speedup=2"]
    lines = json.loads(Path("sweep/summary.json").read_text())
    assert [line["point"] for line in lines] == names
    assert [line.get("speedup", 0) >= 1.5 for line in lines] == [True, False, True]
    assert "out of reach" in lines[1]["error"]
    page = Path("sweep/summary.html").read_text()
    assert "metaprune prune -m target.speedup=1.5,1e7,2 seed=0" in page
    assert "1-speedup=10000000.0" in page
    own = json.loads(Path("sweep/0-speedup=1.5/report.json").read_text())["provenance"]
    assert own["command"].startswith("metaprune prune target.speedup=1.5 seed=0")


def test_points_are_told_by_what_differs(run):
    code, _, errors = run("prune", "-m", "target.speedup=1.5", "seed=0,1", *SMALL)
    assert code == 0, errors
    assert {folder.name for folder in Path("sweep").iterdir() if folder.is_dir()} == {
        "0-seed=0", "1-seed=1",
    }  # fmt: skip
    point = json.loads(Path("sweep/1-seed=1/point.json").read_text())
    assert point == {"number": 1, "settings": ["seed=1"], "error": None}


def test_a_single_run_has_no_summary(run):
    code, _, errors = run("prune", "target.speedup=1.5", *SMALL, "hydra.run.dir=one")
    assert code == 0, errors
    assert not list(Path("one").glob("point.json"))
