"""Score against what is saved and against measured latency, before and after finetuning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.plots import BY_THEME, plot
from metaprune.report.schema import Entry, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LATENCY = "latency_ms"
LABELS = {"speedup": "speed-up (MACs before / after)", LATENCY: "latency (ms)"}


def tradeoff(report: Report) -> Markup:
    """The section, as HTML: a plot against MACs or sparsity, and one against latency.

    Every method is a curve of its networks as they are in the end. Where they were finetuned, empty
    marks are one shot, and an arrow leads to what became of it. The dense network is a diamond.
    """
    if not report.entries:
        return Markup()
    timed = report.latency_ms is not None
    return markup.render(
        "sections/tradeoff.html",
        methods=[(name, theme.series(i)) for i, name in enumerate(report.methods)],
        finetuned=report.finetuned,
        plots=[picture(report, across) for across in (saving(report), *([LATENCY] * timed))],
        untimed=not timed,
        timing=timing(report),
    )


def timing(report: Report) -> str:
    """How latency was measured, in a sentence; empty where it is not known."""
    found = report.timing
    if not found:
        return ""
    threads = found.get("threads")
    return (
        f"Latency: median and quartiles of {found['repeats']} forward passes of each network in "
        f"turns, batches of {found['batch_size']} on {found['device']}"
        + (f", {threads} thread{'s' * (threads != 1)}." if threads else ".")
    )


def picture(report: Report, across: str) -> Markup:
    """A plot as an SVG element whose colours are those of the page around it.

    Args:
        report: with entries.
        across: the horizontal axis: "speedup", "sparsity" or "latency_ms".
    """
    return plot(lambda axes: _draw(axes, report, across), f"{report.score} by {across}")


def saving(report: Report) -> str:
    """What networks save: the speed-up, or where masks give none, the sparsity."""
    faster = any(entry.achieved["speedup"] > 1 for entry in report.entries)
    return "speedup" if faster or not report.entries else "sparsity"


def _draw(axes: Axes, report: Report, across: str) -> None:
    dense = words.scaled(report.score, report.dense[report.score])
    start = {"speedup": 1.0, "sparsity": 0.0, LATENCY: report.latency_ms or 0.0}[across]
    axes.axhline(dense, color=BY_THEME[theme.MUTED], linewidth=1, linestyle=(0, (1, 2)))
    if across == LATENCY and report.latency_range_ms:
        axes.plot(report.latency_range_ms, [dense] * 2, color=BY_THEME[theme.INK], linewidth=1)
    axes.plot([start], [dense], "D", color=BY_THEME[theme.INK], markersize=6, zorder=4)
    for index, method in enumerate(report.methods):
        entries = [entry for entry in report.entries if entry.method == method]
        _curve(axes, report, across, entries, BY_THEME[theme.series(index)])
    axes.set_xlabel(LABELS.get(across, across))
    axes.set_ylabel(words.label(report.score))
    if not report.higher_is_better and _span(report) > 20:
        axes.set_yscale("log")
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.xaxis.set_major_formatter(partial(placed, across))
    axes.margins(x=0.06, y=0.12)
    # From the dense network on, so that a single target has a scale as well.
    every = (report.latency_range_ms, *(entry.latency_range_ms for entry in report.entries))
    ranges = [range_ for range_ in every if range_ is not None]
    spread = [edge for range_ in ranges for edge in range_] if across == LATENCY else []
    places = [
        start,
        *spread,
        *(place for e in report.entries if (place := _place(e, across)) is not None),
    ]
    room = 0.06 * (max(places) - min(places) or 1.0)
    axes.set_xlim(min(places) - room, max(places) + room)
    # Its name, on the side where the picture goes on.
    right = start <= (max(places) + min(places)) / 2
    axes.annotate(
        f"dense {words.metric(report.score, report.dense[report.score])}",
        (start, dense),
        xytext=(8 if right else -8, 5),
        textcoords="offset points",
        ha="left" if right else "right",
        color=BY_THEME[theme.MUTED],
        fontsize=9,
    )


def placed(across: str, value: float, place: object = None) -> str:
    """A number of the horizontal axis as text.

    Args:
        across: "speedup", "sparsity" or "latency_ms".
        value: on it.
        place: of the tick, which plots pass along.
    """
    forms = {"speedup": "{:g}×", LATENCY: "{:g}"}
    return forms[across].format(value) if across in forms else f"{100 * value:g} %"


def _place(entry: Entry, across: str) -> float | None:
    return entry.latency_ms if across == LATENCY else entry.achieved[across]


def _curve(axes: Axes, report: Report, across: str, entries: list[Entry], colour: str) -> None:
    placed = [(place, e) for e in entries if (place := _place(e, across)) is not None]
    placed.sort(key=lambda pair: pair[0])

    def height(metrics: Mapping[str, float]) -> float:
        return words.scaled(report.score, metrics[report.score])

    for place, entry in placed:
        if not entry.after:
            continue
        before, after = height(entry.before), height(entry.after)
        axes.plot(
            [place], [before], "o", color=colour, markersize=5.5, zorder=3,
            markerfacecolor=BY_THEME[theme.PAPER], markeredgewidth=1.4,
        )  # fmt: skip
        if before != after:
            axes.annotate(
                "", (place, after), (place, before),
                arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1, "shrinkB": 4},
            )  # fmt: skip
    if across == LATENCY:
        for place, entry in placed:
            low, high = entry.latency_range_ms or (place, place)
            axes.plot([low, high], [height(entry.final)] * 2, color=colour, linewidth=1)
    axes.plot(
        [place for place, _ in placed],
        [height(entry.final) for _, entry in placed],
        "o-", color=colour, linewidth=1.8, markersize=5.5, zorder=3,
    )  # fmt: skip


def _span(report: Report) -> float:
    """Ratio of the largest to the smallest score."""
    values = [m[report.score] for e in report.entries for m in (e.before, e.after) if m]
    values.append(report.dense[report.score])
    return max(values) / max(min(values), 1e-12)
