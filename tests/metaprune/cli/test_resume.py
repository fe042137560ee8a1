"""`metaprune prune`: the same command in the same folder continues, to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphs.tools import files
from metaprune.cli.main import main

TINY = [
    "prune", "target.speedup=2", "budget=uniform", "finetune=default", "finetune.epochs=2",
    "finetune.batch_size=32", "finetune.checkpoint_every=2", "finetune.progress=false",
    "calibration.examples=32", "evaluate.limit=32", "latency.batch_size=0", "compare=[]",
    "data.train_size=160", "progress=false",
]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix == ".safetensors" or path.name.startswith("plan")
    }


def test_interrupted_at_any_stage_it_goes_on(tmp_path, monkeypatch, capsys):
    whole, seen = os.replace, []

    def replace(source, target):
        if len(seen) == at:
            raise KeyboardInterrupt
        seen.append(Path(target).name)
        whole(source, target)

    at = -1
    monkeypatch.setattr(files.os, "replace", replace)
    main([*TINY, f"hydra.run.dir={tmp_path / 'once'}"])
    expected, names = contents(tmp_path / "once"), list(seen)
    assert names.count("checkpoint.safetensors") > 2  # within epochs, too
    stages = [names.index("step-01"), len(names) - 1 - names[::-1].index("checkpoint.safetensors")]
    for at in stages:
        folder = tmp_path / f"at-{at}"
        own = [*TINY, f"hydra.run.dir={folder}"]
        seen.clear()
        with pytest.raises(SystemExit) as caught:
            main(own)
        assert caught.value.code == 130
        assert f"continues with hydra.run.dir='{folder}'" in capsys.readouterr().err
        at, done = -1, list(seen)
        seen.clear()
        main(own)
        assert contents(folder) == expected
        kept = {"plan-01.json", "step-01"} & set(done)
        assert not kept & set(seen)
        assert not list(folder.rglob(".*"))


@pytest.mark.slow
def test_sigterm_says_a_word(tmp_path):
    own = [sys.executable, "-m", "metaprune", *TINY, f"hydra.run.dir={tmp_path / 'run'}"]
    process = subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "config.yaml").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.startswith("metaprune prune: stopped; nothing is half-written")
