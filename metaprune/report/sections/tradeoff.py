"""Score against speed-up or sparsity, before and after finetuning, one curve a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaprune.report import theme, words
from metaprune.report.plots import BY_THEME, plot
from metaprune.report.schema import Entry, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tradeoff(report: Report) -> str:
    """The plot as an SVG element whose colours are those of the page around it.

    Solid lines and full marks are after finetuning, dashed lines and empty marks before; where
    nothing was finetuned, lines are solid. The dense network is a horizontal rule.
    """
    return plot(lambda axes: _draw(axes, report), f"score by {_across(report)}")


def _draw(axes: Axes, report: Report) -> None:
    dense = words.scaled(report.score, report.dense[report.score])
    axes.axhline(dense, color=BY_THEME[theme.MUTED], linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        f"dense {words.metric(report.score, report.dense[report.score])}",
        (1.0, dense),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=BY_THEME[theme.MUTED],
    )
    for index, method in enumerate(report.methods):
        colour = BY_THEME[theme.series(index)]
        entries = [entry for entry in report.entries if entry.method == method]
        _curve(axes, report, [(e, e.before) for e in entries], colour, method, report.finetuned)
        finetuned = [(entry, entry.after) for entry in entries if entry.after]
        if finetuned:
            _curve(axes, report, finetuned, colour, f"{method}, finetuned", False)
    across = _across(report)
    axes.set_xlabel("speed-up (MACs before / after)" if across == "speedup" else across)
    axes.set_ylabel(words.label(report.score))
    if not report.higher_is_better and _span(report) > 20:
        axes.set_yscale("log")
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:g}×" if across == "speedup" else f"{100 * value:g} %"
    )
    axes.margins(x=0.06, y=0.12)
    # From the dense network on, so that a single target has a scale as well.
    dense_cost = 1.0 if across == "speedup" else 0.0
    most = max([dense_cost, *(entry.achieved[across] for entry in report.entries)])
    room = 0.06 * (most - dense_cost or 1.0)
    axes.set_xlim(dense_cost - room, most + room)
    columns = max(1, len(report.methods))
    legend = axes.legend(
        frameon=False, ncols=columns, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1)
    )
    legend.set_zorder(1)


def _curve(
    axes: Axes,
    report: Report,
    points: list[tuple[Entry, dict]] | list,
    colour: str,
    label: str,
    hollow: bool,
) -> None:
    across = _across(report)
    points = sorted(points, key=lambda point: point[0].achieved[across])
    axes.plot(
        [entry.achieved[across] for entry, _ in points],
        [words.scaled(report.score, metrics[report.score]) for _, metrics in points],
        color=colour,
        label=label,
        linewidth=2 if not hollow else 1.4,
        linestyle=(0, (4, 3)) if hollow else "-",
        marker="o",
        markersize=6.5,
        markerfacecolor=BY_THEME[theme.PAPER] if hollow else colour,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=3,
    )


def _across(report: Report) -> str:
    """The metric of the horizontal axis: the speed-up, or where masks give none, the sparsity."""
    faster = any(entry.achieved["speedup"] > 1 for entry in report.entries)
    return "speedup" if faster or not report.entries else "sparsity"


def _span(report: Report) -> float:
    """Ratio of the largest to the smallest score."""
    values = [m[report.score] for e in report.entries for m in (e.before, e.after) if m]
    values.append(report.dense[report.score])
    return max(values) / max(min(values), 1e-12)
