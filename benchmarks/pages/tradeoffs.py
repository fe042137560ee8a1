"""Accuracy against speed-up of several prune runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from metaprune.report import Report

COLOURS = {
    "expected-loss": "#1f5fd0",
    "global": "#c2570c",
    "metanet": "#0f766e",
    "uniform": "#6b7280",
}


def draw(output: Path, panels: Mapping[str, Path]) -> None:
    """Draw the reports beside each other.

    Hollow marks are one-shot results, full ones are after finetuning where there was any.

    Args:
        output: an SVG file; the same reports give the same file.
        panels: title → `report.json` of a run.
    """
    with matplotlib.rc_context({"svg.hashsalt": "metaprune"}):
        figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.8), squeeze=False)
        for place, (title, path) in zip(axes[0], panels.items(), strict=True):
            _panel(place, title, Report.from_json(path.read_text(encoding="utf-8")))
        axes[0][0].legend(frameon=False)
        figure.tight_layout()
        figure.savefig(output, format="svg", metadata={"Date": None})
        plt.close(figure)


def _panel(axes: plt.Axes, title: str, report: Report) -> None:
    score = report.score
    axes.axhline(100 * report.dense[score], color="#9ca3af", linestyle=":", label="dense")
    for method in report.methods:
        entries = [entry for entry in report.entries if entry.method == method]
        finetuned = [entry for entry in entries if entry.after]
        stages = [("--", "white", [(e, e.before) for e in entries], not finetuned)]
        if finetuned:
            stages.append(("-", None, [(e, e.after) for e in finetuned], True))
        for style, face, points, last in stages:
            axes.plot(
                [entry.achieved["speedup"] for entry, _ in points],
                [100 * metrics[score] for _, metrics in points],
                style,
                color=COLOURS.get(method),
                marker="o",
                markerfacecolor=face,
                label=method if last else None,
            )
    axes.set(title=title, xlabel="speed-up (MACs before / after)", ylabel=f"{score} (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
