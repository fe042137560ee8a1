"""Hydra's launchers and sweepers run our commands: joblib, submitit on this machine, Optuna."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from metaprune.packages import HOME

SMALL = [
    "compare=[]", "latency.batch_size=0", "evaluate.limit=50", "calibration.examples=32",
    "save=false", "data.train_size=100", "hydra.sweep.dir=sweep",
    "model.options={blocks: [1], widths: [8], shortcut: pad, inner: 1.0, act: relu}",
]  # fmt: skip

pytestmark = pytest.mark.slow


def needs(plugin: str) -> pytest.MarkDecorator:
    missing = find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{plugin}") is None
    return pytest.mark.skipif(missing, reason="pip install 'metaprune[sweep]'")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a command in an empty folder as its own process, as launchers expect."""
    monkeypatch.chdir(tmp_path)

    def done(*arguments: str) -> tuple[int, str]:
        found = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "metaprune", *arguments], check=False,
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(HOME)},
        )  # fmt: skip
        return found.returncode, found.stdout + found.stderr

    return done


def summary() -> list[dict]:
    assert Path("sweep/summary.html").is_file()
    return json.loads(Path("sweep/summary.json").read_text())


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
                     marks=needs("hydra_joblib_launcher"), id="joblib"),
        pytest.param(["hydra/launcher=submitit_local"],
                     marks=needs("hydra_submitit_launcher"), id="submitit"),
    ],
)  # fmt: skip
def test_processes_run_points_and_one_that_fails_ends_no_others(call, launcher):
    Path("mine.py").write_text(
        "import torch\n"
        "from training.data import Classification, Data, Split, dataset, fingerprint, hold_out\n"
        "@dataset('noise')\n"
        "def noise(*, seed: int = 0) -> Data:\n"
        "    'Noise.'\n"
        "    rest, test = hold_out(Split(torch.randn(90, 1, 8, 8), torch.arange(90) % 3), 30, 0)\n"
        "    parts = (*hold_out(rest, 20, 0), test)\n"
        "    return Data('noise', *parts, Classification(10), (1, 8, 8), 10, fingerprint(parts))\n"
    )
    small = [one for one in SMALL if not one.startswith("data.")]
    code, said = call(
        "prune", "--import", "mine", "-m", *launcher, "target.speedup=1.5,1e7", "seed=0", "~data",
        "+data={name: noise}", *small,
    )  # fmt: skip
    assert code == 1, said
    first, second = summary()
    assert first["speedup"] >= 1.5
    assert "out of reach" in second["error"]


@needs("hydra_optuna_sweeper")
def test_optuna_looks_for_the_best_score(call):
    code, said = call(
        "prune", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3",
        "hydra.sweeper.direction=maximize", "target.speedup=interval(1.5, 3)", *SMALL,
    )  # fmt: skip
    assert code == 0, said
    found = yaml.safe_load(Path("sweep/optimization_results.yaml").read_text())
    scores = [line["one_shot"] for line in summary()]
    assert len(scores) == 3
    assert math.isclose(found["best_value"], max(scores), rel_tol=1e-6)
