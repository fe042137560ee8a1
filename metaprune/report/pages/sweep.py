"""All points of a sweep on one page: the network to take, pictures over all points, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev
from typing import TYPE_CHECKING, TypeAlias

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.plots import BY_THEME, plot
from metaprune.report.ranking import gives_up_little, recommended
from metaprune.report.schema import Entry, Report
from metaprune.report.sections.recommendation import code, sentences
from metaprune.report.sections.tradeoff import LABELS, LATENCY, placed, saving

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEED, TARGET = "seed=", "target."


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Args:
        folder: of its results, relative to that of the sweep.
        settings: what is special about it, as overrides.
        report: of it; None where it has none.
        error: why it failed; None where it did not.
    """

    folder: str
    settings: tuple[str, ...]
    report: Report | None = None
    error: str | None = None


Done: TypeAlias = tuple[Point, Report]
"""A point that has a report, with it."""


def page(points: Sequence[Point], title: str, command: str | None, date: str | None) -> str:
    """The page, a function of the points alone.

    Args:
        points: in their order.
        title: of the page.
        command: that made them, as it is typed.
        date: of the end of the sweep.
    """
    done = [(p, p.report) for p in points if p.report is not None and p.report.entries]
    said, opened = _recommendation(done)
    names = series(done)
    return markup.whole_page(
        "sweep.html",
        maker="metaprune",
        title=title,
        made_by=command,
        when=date,
        sentences=said,
        code=opened,
        count=len(points),
        series=[(name, theme.series(i)) for i, name in enumerate(names)],
        plots=_plots(done, names),
        head=("point", "method", "asked", "saved", "latency", "score",
              *(["finetuned"] if any(report.finetuned for _, report in done) else [])),
        rows=_rows(done, names),
        seeds=_seeds(done),
        failed=[(point.folder, point.error or "it left no report") for point in points
                if point.report is None],
    )  # fmt: skip


def series(points: Sequence[Done]) -> list[str]:
    """What the colours stand for: methods with their settings, methods alone where too many."""
    found = list(dict.fromkeys(_of(point, e) for point, report in points for e in report.entries))
    if len(found) <= theme.SERIES:
        return found
    return list(dict.fromkeys(e.method for _, report in points for e in report.entries))


def _of(point: Point, entry: Entry) -> str:
    """Method and settings of a network, without targets and seeds, which the pictures show."""
    shown = (SEED, TARGET, f"budget={entry.method}")
    return " ".join([entry.method, *(s for s in point.settings if not s.startswith(shown))])


def _colour(point: Point, entry: Entry, names: Sequence[str]) -> str:
    name = _of(point, entry)
    return theme.series(names.index(name if name in names else entry.method))


def _recommendation(points: Sequence[Done]) -> tuple[list[str], str | None]:
    """Sentences, and code; among the networks that every point recommends, the smallest good one.

    Scores of several metrics or splits are not compared.
    """
    kinds = {(report.score, report.split) for _, report in points}
    found = [
        (point, report, entry)
        for point, report in points
        if (entry := recommended(report)) is not None
    ]
    if not found:
        return ["No network was saved (save=false), so there is none to recommend."], None
    if len(kinds) > 1:
        return ["Points differ in what they measure: see the report of each."], None
    near = [one for one in found if gives_up_little(one[1], one[2])]
    sign = 1 if found[0][1].higher_is_better else -1

    def good(one: tuple[Point, Report, Entry]) -> float:
        return sign * one[2].final[one[1].score]

    def small(one: tuple[Point, Report, Entry]) -> tuple[float, float, float]:
        # What differs by less than a person is shown is alike, and the score decides.
        achieved = one[2].achieved
        return round(achieved["speedup"], 2), round(achieved["sparsity"], 2), good(one)

    point, report, entry = max(near, key=small) if near else max(found, key=good)
    said = [f"Point {point.folder}.", *sentences(report, entry)]
    if len(found) > 1 and report.split == "test":
        said.append(
            f"It was chosen among {len(found)} by scores of the test split, so its own is rather "
            "too good: choose on validation (evaluate.split=validation), and measure the chosen "
            "one on test."
        )
    own = report.config.get("model", {}).get("source") != "function"
    return said, code(entry, trust=not own, inside=point.folder)


def _rows(points: Sequence[Done], names: Sequence[str]) -> list[markup.Row]:
    rows, finetuned = [], any(report.finetuned for _, report in points)
    for point, report in points:
        score = report.score
        link = Markup('<a href="{}/report.html">{}</a>').format(point.folder, point.folder)
        for entry in report.entries:
            saved = entry.achieved[saving(report)]
            scores = [words.metric(score, entry.before[score])]
            if finetuned:
                scores.append(words.metric(score, entry.after[score]) if entry.after else "-")
            rows.append(
                markup.Row(
                    (
                        link,
                        entry.method,
                        words.asked(entry.asked),
                        f"{saved:.2f}×" if saving(report) == "speedup" else f"{100 * saved:.3g} %",
                        words.duration(entry.latency_ms),
                        *scores,
                    ),
                    colour=_colour(point, entry, names),
                )
            )
    return rows


def _seeds(points: Sequence[Done]) -> list[markup.Row]:
    """Mean and spread of what was run with several seeds; nothing for one seed."""
    alike: dict[tuple[str, ...], list[tuple[Report, Entry]]] = {}
    for point, report in points:
        fixed = [one for one in point.settings if not one.startswith((SEED, TARGET))]
        for entry in report.entries:
            key = (entry.method, words.asked(entry.asked), *fixed)
            alike.setdefault(key, []).append((report, entry))
    rows = []
    for (method, asked, *settings), found in alike.items():
        if len(found) < 2:
            continue
        score = found[0][0].score
        values = [entry.final[score] for _, entry in found]
        rows.append(
            markup.Row(
                (
                    method,
                    asked,
                    " ".join(settings) or "-",
                    str(len(values)),
                    words.metric(score, mean(values)),
                    words.metric(score, stdev(values)),
                    f"{words.metric(score, min(values))} to {words.metric(score, max(values))}",
                )
            )
        )
    return rows


def _plots(points: Sequence[Done], names: Sequence[str]) -> list[Markup]:
    reports = [report for _, report in points]
    if not reports or len({report.score for report in reports}) > 1:
        return []
    first = next((r for r in reports if saving(r) == "speedup"), reports[0])
    timed = [report for report in reports if report.latency_ms is not None]
    across = [saving(first), *([LATENCY] if len(timed) == len(reports) else [])]
    return [
        plot(partial(_draw, points, names, each), f"{first.score} by {each}") for each in across
    ]


def _draw(points: Sequence[Done], names: Sequence[str], across: str, axes: Axes) -> None:
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point, report in points:
        score = report.score
        start: Mapping[str, float | None] = {"speedup": 1.0, "sparsity": 0.0,
                                             LATENCY: report.latency_ms}  # fmt: skip
        axes.plot(
            [start[across] or 0.0], [words.scaled(score, report.dense[score])], "D",
            color=BY_THEME[theme.INK], markersize=6,
        )  # fmt: skip
        for entry in report.entries:
            place = entry.latency_ms if across == LATENCY else entry.achieved[across]
            height = words.scaled(score, entry.final[score])
            same = curves.setdefault(_colour(point, entry, names), {})
            same.setdefault(words.asked(entry.asked), []).append((place or 0.0, height))
        axes.set_ylabel(words.label(score))
    for colour, asked in curves.items():
        every = [pair for found in asked.values() for pair in found]
        axes.plot(*zip(*every, strict=True), "o", color=BY_THEME[colour], markersize=5.5)
        # Through the means of what was asked the same: those of seeds.
        line = sorted((mean(x for x, _ in found), mean(y for _, y in found))
                      for found in asked.values())  # fmt: skip
        axes.plot(*zip(*line, strict=True), color=BY_THEME[colour], linewidth=1.4)
    axes.set_xlabel(LABELS.get(across, across))
    axes.xaxis.set_major_formatter(partial(placed, across))
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.margins(x=0.06, y=0.12)
