"""docs/expected-loss-results.md: expected loss beside every other rule, on fixed protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean

from benchmarks.expected_loss import tables
from benchmarks.expected_loss.cells import Records
from benchmarks.expected_loss.prediction import spearman
from benchmarks.expected_loss.suites import SUITES

HEAD = """# Expected loss: what was measured

`python -m benchmarks.expected_loss` fills these tables cell by cell, `make docs` writes this
page. Means and standard deviations are over seeds of the calibration where several were measured;
a single figure is one run. CPU seconds on one thread of a busy machine. Language models: 48
sequences of 256 tokens (64 for channels), perplexity of 200 other windows; the head stays dense
and is refitted. ResNets: accuracy on the first 4,000 test images. Zoo: small networks on CIFAR-10
at 16 × 16 pixels, KL to the dense network on 1,024 images that the calibration did not see.

Rules without "both sides" were measured before curvature reached the solvers: their masks and
ranks are solved for the layers' own outputs, as everything was.

"""

PREDICTION = """## How well it ranks budgets

Spearman correlation of expected loss, from curves on other images, with the true divergence of
pruned and refitted networks: means over networks of 24 to 48 budgets each at one cost.

"""


def page(folder: Path) -> str:
    """The page as Markdown.

    Args:
        folder: of the records.
    """
    parts = [HEAD]
    for name in SUITES:
        path = folder / f"{name}.jsonl"
        if path.exists():
            parts.append(tables.of(name, [*Records(path)]))
    prediction = folder / "prediction.jsonl"
    if prediction.exists():
        lines = [json.loads(text) for text in prediction.read_text("utf-8").splitlines()]
        parts.append(PREDICTION + ranking(lines))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def ranking(lines: Sequence[Mapping]) -> str:
    """Families down: correlation, and the geometric mean of true over expected loss."""
    found: dict[str, list[Mapping]] = {}
    for line in lines:
        subject = line["subject"].split("/")[-1]
        family = subject.split("-")[0] if line["kind"] == "widths" else subject
        found.setdefault(f"{family}, {line['share']:g} stays", []).append(line)
    body = []
    for name, own in sorted(found.items()):
        ratios = [log(kl / told) for line in own for told, kl in line["pairs"] if told > 0 < kl]
        correlation = mean(spearman(line["pairs"]) for line in own)
        body.append([name, str(len(own)), f"{correlation:.2f}", f"{exp(mean(ratios)):.2f}"])
    return tables.markdown(["family", "networks", "Spearman", "true / expected"], body)
