"""`metaprune demo`: the whole road on small networks, in under three minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphs.tools.files import write_text
from graphs.tools.words import counted
from metaprune.cli.commands.prune import spread
from metaprune.cli.config import (
    architecture,
    check_groups,
    load_data,
    load_model,
    run_folder,
    typed,
    typed_command,
)
from metaprune.cli.methods import check_methods, methods
from metaprune.cli.settings import CalibrationSettings, LatencySettings
from metaprune.cli.study import Measuring, Study
from metaprune.report import Report, words, write
from metaprune.report.pages.sweep import Point, page
from metaprune.report.ranking import by_target
from metaprune.results.provenance import today
from metaprune.settings import Settings
from training import FitConfig, fit
from training.config import from_mapping
from training.data.core import Data
from training.fitting.chance import drawn_means, interval


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `conf/demo.yaml`, which says what each means."""

    title: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    fit: Mapping[str, Any]
    pattern: str
    target: Mapping[str, Any]
    budget: str | Mapping[str, Any] | None
    compare: Sequence[str | Mapping[str, Any]]
    calibration: CalibrationSettings
    finetune: Mapping[str, Any] | None
    latency: LatencySettings
    threads: int | None
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds needs at least one: [7]")


def run(config: DictConfig) -> None:
    """Train, prune and compare a network for every seed; report all together."""
    started = time.perf_counter()
    settings, content = typed(DemoConfig, config)
    late = [] if settings.finetune is None else [{"finetune": dict(settings.finetune)}]
    pruning = Settings.of(
        pattern=settings.pattern, budget=settings.budget, recovery=["default", *late]
    )
    targets = spread(settings.target, settings.pattern)
    chosen = methods(pruning, settings.compare)
    check_methods(pruning, targets, chosen, settings.calibration.examples > 0)
    check_groups(settings.model, settings.data)
    training = from_mapping(FitConfig, settings.fit, "fit")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console, data = Console(), load_data(settings.data)
    folder = run_folder(content)
    studies: list[Study] = []
    points = []
    for seed in settings.seeds:
        model = load_model({**settings.model, "seed": seed})
        console.print(f"seed {seed}: training the dense network", highlight=False)
        fit(model, data, replace(training, seed=seed))
        model.eval()
        study = Study(
            model,
            data,
            settings.calibration.of(data, seed),
            pruning,
            Measuring(latency=settings.latency),
            architecture(settings.model),
            console=console,
        )
        place = folder / f"seed={seed}"
        study.run(targets, chosen, place)
        report = study.report(f"{settings.title}, seed {seed}", "demo", content, seed, _again(seed))
        write(report, place)
        studies.append(study)
        points.append(Point(place.name, (f"seed={seed}",), report))
    write_text(folder / "report.html", page(points, settings.title, typed_command(), today()))
    reports = [point.report for point in points if point.report is not None]
    outcomes = [
        sum(study.outcomes[place] for study in studies) for place in range(len(reports[0].entries))
    ]
    dense = sum(study.dense for study in studies)
    drawn = _scores(drawn_means([dense, *outcomes]), data)
    console.print(table(settings.title, reports, drawn))
    for sentence in differences(reports[0], drawn):
        console.print(sentence, highlight=False)
    console.print(
        f"report: {Path(folder) / 'report.html'}\n{time.perf_counter() - started:.0f} s in all",
        highlight=False,
        soft_wrap=True,
    )


def _again(seed: int) -> str:
    return f"{typed_command()} 'seeds=[{seed}]'"


def _scores(means: Tensor, data: Data) -> Tensor:
    """Scores of (draws, networks) means."""
    return torch.tensor([[data.task.score_of(one) for one in row] for row in means.tolist()])


def _mean(reports: Sequence[Report], place: int | None) -> float:
    """The score of an entry, or of the dense network for None, the mean over seeds."""
    score = reports[0].score
    return mean(
        report.dense[score] if place is None else report.entries[place].final[score]
        for report in reports
    )


def table(title: str, reports: Sequence[Report], drawn: Tensor) -> Table:
    """Means over seeds, with the interval of draws of the test examples.

    Args:
        title: of the table.
        reports: one a seed, of the same methods and targets.
        drawn: scores, (draws, 1 + entries); the dense networks first.
    """
    score = reports[0].score
    shown = Table(
        title=f"{title}: means of {counted(len(reports), 'seed')}",
        title_justify="left",
        caption=f"95 % of draws of the {reports[0].examples:,} test examples.",
        caption_justify="left",
    )
    for name in ("method", "asked", score, "95 %"):
        shown.add_column(name, justify="left" if name in ("method", "asked") else "right")
    sure = words.within(score, interval(drawn[:, 0]))
    shown.add_row("dense", "", words.metric(score, _mean(reports, None)), sure)
    previous = None
    for place, entry in enumerate(reports[0].entries):
        if entry.asked != previous:
            shown.add_section()
            previous = entry.asked
        found = words.metric(score, _mean(reports, place))
        sure = words.within(score, interval(drawn[:, place + 1]))
        shown.add_row(entry.method, words.asked(entry.asked), found, sure)
    return shown


def differences(report: Report, drawn: Tensor) -> list[str]:
    """How much the first method is ahead of each other, drawn together, a sentence each.

    Args:
        report: of any seed.
        drawn: see `table`.
    """
    found = []
    for group in by_target(report):
        first, *others = (report.entries.index(entry) for entry in group)
        for other in others:
            lead = drawn[:, first + 1] - drawn[:, other + 1]
            low, high = interval(lead if report.higher_is_better else -lead)
            names = f"{report.entries[first].method} and {report.entries[other].method}"
            asked = words.asked(report.entries[first].asked)
            verdict = "differ by no more than chance" if low <= 0 <= high else "differ"
            found.append(
                f"{names} at {asked} {verdict}: the first is ahead by "
                f"{words.within(report.score, (low, high))}."
            )
    return found
