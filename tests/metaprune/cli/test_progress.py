"""Steps that take long are named while they do, short ones and all of them on request are not."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from metaprune.cli import progress
from metaprune.cli.progress import PATIENCE, Progress


def told(seconds: float, shown: bool = True) -> str:
    out = io.StringIO()
    with Progress(Console(file=out), shown).step("thinking [hard]"):
        time.sleep(seconds)
    return out.getvalue()


def test_people_wait_no_longer_than_two_seconds():
    assert PATIENCE < 2


@pytest.mark.parametrize(("seconds", "shown", "words"), [
    (0.3, True, "thinking [hard] ...\n"), (0.0, True, ""), (0.3, False, ""),
])  # fmt: skip
def test_what_takes_long_is_named(monkeypatch, seconds, shown, words):
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    assert told(seconds, shown) == words


def test_an_error_ends_a_step(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress(Console(file=out)).step("thinking"):
        raise ValueError("no")
    time.sleep(0.2)
    assert out.getvalue() == ""


def test_a_run_says_what_it_does_unless_it_is_told_not_to(run, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    short = [
        "prune", "target.macs=50%", "compare=[]", "latency.batch_size=0", "save=false",
        "calibration.examples=32", "evaluate.limit=50",
        "model.options={blocks: [1], widths: [8], shortcut: pad, inner: 1.0, act: relu}",
    ]  # fmt: skip
    code, out, errors = run(*short)
    assert code == 0, errors
    assert "pruning: expected-loss at macs 50% ..." in out
    code, out, errors = run(*short, "progress=false")
    assert code == 0, errors
    assert " ..." not in out


def test_documents_for_programs_stay_whole(run, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    code, out, errors = run("inspect", "--json")
    assert code == 0
    assert json.loads(out)["model"]
    assert "inspecting ..." in errors


def test_inspect_leaves_out_what_is_ignored(run):
    _, plain, _ = run("inspect", "--json")
    code, out, errors = run("inspect", "--json", "ignore=[layer1,layer2]")
    assert code == 0, errors
    before, after = json.loads(plain), json.loads(out)
    assert len(after["groups"]) < len(before["groups"])
    assert any(one["reason"] == "ignored, as asked" for one in after["left_alone"])
    assert after["reachable"]["speedup"][1] < before["reachable"]["speedup"][1]
    code, _, errors = run("inspect", "ignore=[layer9]")
    assert code == 1
    assert "ignore: unknown module or class" in errors
