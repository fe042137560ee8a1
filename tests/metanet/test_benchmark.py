"""The benchmark runs, and its ratios are what the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metanet_speed.py"


@pytest.mark.slow
def test_streaming_is_faster_and_smaller_than_the_published_network(tmp_path):
    output = tmp_path / "speed.json"
    command = [sys.executable, str(SCRIPT), "--threads", "1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ResNet-56" in done.stdout
    peer, same = json.loads(output.read_text())["rows"][:2]
    assert peer["config"]["name"] == "pna"
    # Half of what the README says: other work on the machine disturbs the times.
    assert peer["forward"]["seconds"] / same["forward"]["seconds"] > 10
    for kind in ("forward", "forward + backward"):
        assert peer[kind]["peak_mb"] / same[kind]["peak_mb"] > 5
