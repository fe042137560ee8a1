"""Where the measurements lie that the generated pages and pictures are made from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RECORDS = ROOT / "benchmarks" / "records"

ARCHITECTURES = RECORDS / "architectures.jsonl"
"""Rows of `benchmarks.architectures`."""

EXPECTED_LOSS = RECORDS / "expected_loss"
"""Folder of rows of `benchmarks.expected_loss`."""

RESNETS = EXPECTED_LOSS / "resnets.jsonl"
"""Those of the trained CIFAR-10 ResNets."""

TARGETS = RECORDS / "targets.jsonl"
"""Rows of `benchmarks.targets`."""

FAULTS = RECORDS / "faults.jsonl"
"""Rows of `benchmarks.faults`."""
