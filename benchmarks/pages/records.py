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

TARGETS = RECORDS / "targets.jsonl"
"""Rows of `benchmarks.targets`."""

CIFAR10 = {
    "ResNet-20": RECORDS / "cifar10-resnet20.json",
    "ResNet-56": RECORDS / "cifar10-resnet56.json",
}
"""What `keep_report` keeps of the runs of `runs/cifar10_resnets.sh`, by the title of its panel."""
