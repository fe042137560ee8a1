"""What takes long to import is imported when it is used, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metaprune.packages import HOME

HEAVY = ("torch_geometric", "transformers", "sklearn", "datasets", "matplotlib")
MODEL = """
import sys
import torch
from torch import nn
import metaprune
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
inputs = torch.randn(16, 4)
"""
USES = {
    "import": "metaprune.prune, metaprune.inspect, metaprune.load, metaprune.testing",
    "channels": "metaprune.prune(model, (inputs,), target={'macs': '50%'})",
    "masks": "metaprune.prune(model, (inputs,), pattern='2:4', calibration=[inputs])",
    "labels": "metaprune.prune(model, (inputs, torch.arange(16) % 2), target={'macs': '50%'})",
    "inspection": "str(metaprune.inspect(model, (inputs,)))",
    "save": "metaprune.prune(model, (inputs,), target={'macs': '50%'}).save('pruned')",
}


@pytest.mark.parametrize("use", USES)
def test_nothing_heavy_is_imported_without_a_metanetwork(use, tmp_path):
    code = f"{MODEL}\n{USES[use]}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []
