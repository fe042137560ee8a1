"""Accuracy against speed-up of several rules in one picture, a panel a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.expected_loss.cells import DENSE

COLOURS = {
    "expected loss": "#1f5fd0",
    "global": "#c2570c",
    "metanet": "#0f766e",
    "uniform": "#6b7280",
}
"""The rules that are drawn."""

PATTERN, EXAMPLES = "channels", 512


def draw(output: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw one-shot results of channels, means over seeds.

    Args:
        output: an SVG file; the same lines give the same file.
        lines: rows of the benchmark "resnets".
    """
    wanted = [
        line
        for line in lines
        if (line["pattern"], line["examples"]) == (PATTERN, EXAMPLES) and line["rule"] in COLOURS
    ]
    dense = {line["model"]: line for line in lines if line["rule"] == DENSE}
    panels = sorted({line["model"] for line in wanted})
    with matplotlib.rc_context({"svg.hashsalt": "metaprune"}):
        figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.8), squeeze=False)
        for place, model in zip(axes[0], panels, strict=True):
            own = [line for line in wanted if line["model"] == model]
            _panel(place, model, dense[model]["figures"]["accuracy"], own)
        axes[0][0].legend(frameon=False)
        figure.tight_layout()
        figure.savefig(output, format="svg", metadata={"Date": None})
        plt.close(figure)


def _panel(axes: plt.Axes, title: str, dense: float, lines: Sequence[Mapping[str, Any]]) -> None:
    axes.axhline(dense, color="#9ca3af", linestyle=":", label="dense")
    for rule, colour in COLOURS.items():
        found: dict[float, list[float]] = {}
        for line in lines:
            if line["rule"] == rule:
                faster = found.setdefault(line["target"]["speedup"], [])
                faster.append(line["figures"]["accuracy"])
        points = sorted(found)
        heights = [mean(found[point]) for point in points]
        axes.plot(points, heights, "-o", color=colour, label=rule)
    axes.set(title=title, xlabel="speed-up (MACs before / after)", ylabel="accuracy (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
