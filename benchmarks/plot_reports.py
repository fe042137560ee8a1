"""Accuracy against speed-up of several prune runs in one picture.

    python benchmarks/plot_reports.py OUTPUT.svg TITLE=REPORT.json[,REPORT.json...] ...

One panel for every TITLE; hollow marks are one-shot results, full ones are after finetuning where
there was any. Runs of one panel must share their data and split (the dense score is taken from the
first).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"metanet": "#1f5fd0", "global": "#c2570c", "uniform": "#6b7280"}


def panel(axes: plt.Axes, title: str, paths: list[str]) -> None:
    """Draw the entries of a few `report.json` files."""
    reports = [json.loads(Path(path).read_text()) for path in paths]
    score = reports[0]["score"]
    axes.axhline(100 * reports[0]["dense"][score], color="#9ca3af", linestyle=":", label="dense")
    for report in reports:
        curves: dict[str, list[dict]] = {}
        for entry in report["entries"]:
            curves.setdefault(entry["method"], []).append(entry)
        for method, entries in curves.items():
            colour = COLOURS.get(method)
            for stage, style, face in (("before", "--", "white"), ("after", "-", None)):
                measured = [entry for entry in entries if entry[stage]]
                if not measured:
                    continue
                x = [entry["achieved"]["speedup"] for entry in measured]
                y = [100 * entry[stage][score] for entry in measured]
                last = stage == "after" or not any(entry["after"] for entry in entries)
                label = method if last else None
                axes.plot(x, y, style, color=colour, marker="o", markerfacecolor=face, label=label)
    axes.set(title=title, xlabel="speed-up (MACs before / after)", ylabel=f"{score} (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main(output: str, *panels: str) -> None:
    """Draw all panels beside each other."""
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.8), squeeze=False)
    for place, given in zip(axes[0], panels, strict=True):
        title, _, paths = given.partition("=")
        panel(place, title, paths.split(","))
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    matplotlib.rcParams["svg.hashsalt"] = "metaprune"
    figure.savefig(output, metadata={"Date": None} if output.endswith("svg") else None)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
