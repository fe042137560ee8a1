"""`metaprune prune transform=...`: from the command line to a report and a network on disk."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
import torch

import metaprune
from tests.metaprune.networks import Normed

ASK = [
    "model=function",
    "model.function=tests.metaprune.networks:Normed",
    "latency.batch_size=0",
    "calibration.examples=64",
    "data.train_size=100",
    "compare=[]",
    "pattern=2:4",
]


@pytest.mark.parametrize("asked", ["rotate", "{rotate: {descent: 3}, permute: {}}"])
def test_a_report_and_a_network_that_opens(run, asked):
    code, _, errors = run("prune", *ASK, f"transform={asked}", "hydra.run.dir=out")
    assert code == 0, errors
    (entry,) = json.loads(Path("out/report.json").read_text())["entries"]
    assert any(note.startswith("Turned: ") for note in entry["transform"]["notes"])
    assert entry["transform"]["turned"]
    shown = Path("out/report.html").read_text()
    assert all(html.escape(note) in shown for note in entry["transform"]["notes"])
    (folder,) = (path for path in Path("out").iterdir() if path.is_dir() and "model" in path.name)
    model = metaprune.load(folder, trust=True)
    assert type(model) is Normed
    assert torch.equal(model.norm.weight, torch.ones(16))
    plan = metaprune.Plan.load(Path("out") / f"{folder.name.replace('model', 'plan', 1)}.json")
    assert plan.moves.turns


def test_mistakes_are_named(run):
    code, _, errors = run("prune", *ASK, "transform=rotte")
    assert code == 1
    assert 'unknown transformation "rotte" (did you mean "rotate"?)' in errors
