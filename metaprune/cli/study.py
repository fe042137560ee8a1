"""One network, several targets, several ways to divide the budget, measured alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf, isnan
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from graphs.tools.files import refuse_filled
from metaprune.applying import recover
from metaprune.calibration import Calibration
from metaprune.cli.methods import Method, options_of
from metaprune.cli.progress import Progress
from metaprune.cli.settings import LatencySettings
from metaprune.job import Job
from metaprune.patterns import parse
from metaprune.planning import ignored, recovery_methods
from metaprune.report import Entry, Layer, Report, words
from metaprune.report.outline import outline
from metaprune.report.ranking import DENSE
from metaprune.result import Result
from metaprune.results.provenance import machine, today, versions
from metaprune.saving.export import check as check_format
from metaprune.schedules import parse as parse_schedule
from metaprune.schedules.run import run_schedule
from metaprune.settings import Settings
from pruners import Target, fingerprint, measure
from training import evaluate
from training.data.core import Data
from training.fitting.chance import behind, drawn_means, interval
from training.fitting.evaluate import Measured, device_of, measured
from training.fitting.latency import Latency
from training.fitting.tracking import within

CHOSEN_BY = "validation"
"""The split by which the network of a target is chosen among methods."""


@dataclass(frozen=True)
class Measuring:
    """How a study measures; the same for every method.

    Args:
        export: formats (`metaprune.saving.export`) in which saved networks are written too.
        split: part of the data that is reported.
        limit: examples of it, None for all.
        latency: how forward passes are timed.
    """

    export: Sequence[str] = ()
    split: str = "test"
    limit: int | None = None
    latency: LatencySettings = field(default_factory=LatencySettings)


def _folder_name(asked: Mapping[str, Any]) -> str:
    """Of a pruned network, after what was asked: `model-macs50pct`."""
    return "-".join(["model", *(f"{k}{v}" for k, v in asked.items())]).replace("%", "pct")


@dataclass
class Study:
    """A network, the data it is judged by, and what was found out so far.

    Args:
        model: the dense network; left as it was.
        data: with the task.
        calibration: batches for statistics.
        settings: how to prune; target, metanetwork and budget are those of each point.
        measuring: how to measure.
        source: how `training.sources.load` builds the dense architecture, if it can; for saving.
        checkpoints: folder that keeps plans and the steps of schedules; None keeps none.
        console: where results are told.
        progress: whether steps that take long are named while they do.
    """

    model: nn.Module
    data: Data
    calibration: Calibration | None
    settings: Settings
    measuring: Measuring = field(default_factory=Measuring)
    source: Mapping[str, Any] | None = None
    checkpoints: Path | None = None
    console: Console = field(default_factory=Console)
    progress: bool = True
    entries: list[Entry] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    outcomes: list[Tensor] = field(default_factory=list)
    dense: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    def __post_init__(self) -> None:
        self.steps = Progress(self.console, self.progress)
        example = self.data.example_inputs()
        with self.steps.step("tracing the network"):
            job = Job.of(self.model, example, self.calibration, ignore=ignored(self.settings))
        self.job = replace(job, data=self.data)

    def run(
        self, targets: Sequence[Mapping[str, Any]], chosen: Sequence[Method], folder: Path | None
    ) -> None:
        """Prune to every target by every method.

        Targets out of reach and folders in use are refused before any work.

        Args:
            targets: mappings that `Target.parse` reads; for N:M patterns one empty mapping.
            chosen: the methods; of each target the network that is best on held-out data is saved.
            folder: for the networks; None saves nothing.
        """
        wanted = [Target.parse(target) if target else None for target in targets]
        cuts = parse(self.settings.pattern).prunes == "axes"
        for target in wanted:
            if target is not None and cuts:
                target.check(self.job.net)
        if folder is not None:
            for target in wanted:
                asked = target.asked if target else {}
                # What an interrupted run of the same command has saved is whole, and stays.
                kept = self._kept(chosen[0], asked)
                if kept is None or not kept.is_dir():
                    refuse_filled(folder / _folder_name(asked))
        for kind in self.measuring.export:
            check_format(kind)
        if len(wanted) > 1 and any("journal" in options_of(method.budget) for method in chosen):
            raise ValueError(
                f"a journal is of one search, and {len(wanted)} targets are asked: leave "
                "budget.journal out, or run each target by itself"
            )
        points = [
            [
                (replace(self.settings, target=target and target.asked, **method.choice), method)
                for method in chosen
            ]
            for target in wanted
        ]
        for settings, _ in chain.from_iterable(points):
            recovery_methods(self.job, settings)
        for together in points:
            first = len(self.entries)
            for settings, method in together:
                self._one(settings, method, judged=len(together) > 1)
            if folder is not None:
                self._save_best(first, folder)

    def _one(self, settings: Settings, method: Method, judged: bool) -> None:
        asked = {} if settings.wanted is None else settings.wanted.asked
        with within(f"{method.name}-{_folder_name(asked).removeprefix('model-')}"):
            self._pruned(settings, method, judged)

    def _pruned(self, settings: Settings, method: Method, judged: bool) -> None:
        started = time.perf_counter()
        every = recovery_methods(self.job, settings)
        # What trains comes after the first measurement, so that one shot and finetuned both show.
        late = [method for method in every if "data" in method.needs and self._at_once(settings)]
        now = [method for method in every if method not in late]
        asked = "" if settings.wanted is None else f" at {words.asked(settings.wanted.asked)}"
        with self.steps.step(f"pruning: {method.name}{asked}"):
            run = run_schedule(self.job, settings, now, self._checkpoints(settings, method))
        took = time.perf_counter() - started
        found = run.pruned
        seconds = dict(found.report["seconds"])
        planned = round(max(0.0, took - sum(seconds.values())), 4)
        with self.steps.step("measuring the pruned network"):
            last = self.measure(found.model)
        before, after = last.metrics, {}
        if late:
            with self.steps.step(f"recovering: {', '.join(each.name for each in late)}"):
                found = recover(found, run.job, late, self._checkpoints(settings, method))
                last = self.measure(found.model)
            after = last.metrics
        result = Result.of(found)
        report = result.report
        entry = Entry(
            method=method.name,
            asked=dict(report["asked"]) or {"pattern": result.plan.pattern},
            achieved=report["achieved"],
            before=before,
            after=after,
            layers=tuple(Layer(**layer) for layer in report["layers"]),
            notes=tuple(report["notes"]),
            seconds={"plan": planned, **report["seconds"]},
            expected=report.get("expected_loss", {}),
            transform=report.get("transform", {}),
            held_out=self._held_out(found.model, last) if judged else {},
        )
        self.entries.append(entry)
        self.results.append(result)
        self.outcomes.append(last.outcomes)
        self._tell(entry)

    def _held_out(self, model: nn.Module, last: Measured) -> dict[str, float]:
        """Metrics that methods are chosen by, of data that nothing was fitted to."""
        if self.measuring.split == CHOSEN_BY:
            return last.metrics
        with self.steps.step("measuring on held-out data"):
            return evaluate(model, self.data, CHOSEN_BY, limit=self.measuring.limit)

    def _save_best(self, first: int, folder: Path) -> None:
        """Save the network of a target that is best on held-out data, whichever method made it.

        Args:
            first: place of the first entry of the target.
            folder: for the networks.
        """
        score, sign = self.data.task.score, 1 if self.data.task.higher_is_better else -1

        def good(place: int) -> float:
            held_out = self.entries[place].held_out or self.entries[place].final
            return -inf if isnan(held_out[score]) else sign * held_out[score]

        place = max(range(first, len(self.entries)), key=good)
        result, entry = self.results[place], self.entries[place]
        name = _folder_name(result.report["asked"])
        with self.steps.step("saving the pruned network"):
            if not (folder / name).exists():
                result.save(folder / name, source=self.source)
        result.plan.save(folder / f"{name.replace('model', 'plan', 1)}.json")
        result = self._exported(result, folder / name)
        self.results[place] = result
        self.entries[place] = replace(entry, folder=name, notes=tuple(result.report["notes"]))
        if entry.held_out:
            said = f"{name}: {entry.method}, the best on the {CHOSEN_BY} split"
            self.console.print(said, highlight=False)

    def _at_once(self, settings: Settings) -> bool:
        """Whether a schedule is a single pruning."""
        schedule, pattern = parse_schedule(settings.schedule), parse(settings.pattern)
        return len(schedule.targets(self.job.net, settings.wanted, pattern)) == 1

    def _checkpoints(self, settings: Settings, method: Method) -> Path | None:
        """Where the steps of a method to a target are kept."""
        return self._kept(method, {} if settings.wanted is None else settings.wanted.asked)

    def _kept(self, method: Method, asked: Mapping[str, Any]) -> Path | None:
        if self.checkpoints is None:
            return None
        return self.checkpoints / f"{method.name}-{_folder_name(asked)}"

    def _exported(self, result: Result, folder: Path) -> Result:
        """The result, written in other formats; a failure is told, and does not end the study."""
        notes = []
        for kind in self.measuring.export:
            try:
                result.export(folder / f"model.{kind}")
                notes.append(f"Exported as model.{kind}, which computes the same.")
            except ValueError as error:
                notes.append(f"Not exported as {kind}: {error}.")
                self.console.print(notes[-1], highlight=False)
        return replace(result, report={**result.report, "notes": [*result.report["notes"], *notes]})

    def _tell(self, entry: Entry) -> None:
        score = self.data.task.score
        found = words.metric(score, entry.before[score])
        if entry.after:
            found += f", finetuned {words.metric(score, entry.after[score])}"
        self.console.print(
            f"{entry.method} at {words.asked(entry.asked)}: "
            f"{words.saved(entry.achieved, self.job.dense.costs['params'])}, {score} {found}",
            highlight=False,
        )

    def measure(self, model: nn.Module) -> Measured:
        """Metrics on the reported split, and what each example adds to the score."""
        split = self.data.split(self.measuring.split).take(self.measuring.limit)
        return measured(model, split, self.data.task)

    def report(
        self, title: str, command: str, config: Mapping[str, Any], seed: int, typed: str
    ) -> Report:
        """Everything found out, with measured latencies.

        Args:
            title: of the report.
            command: that made it: "prune".
            config: its settings.
            seed: of the run.
            typed: the whole command, as it is typed.
        """
        with self.steps.step("timing forward passes"):
            latencies = self._latencies()
        with self.steps.step("measuring the dense network"):
            dense = self.measure(self.model)
        self.dense = dense.outcomes
        own, entries = self._drawn(dense.outcomes)
        nodes, edges = outline(self.job.net)
        digests = {**fingerprint(self.job.net), "data": self.data.fingerprint[:16]}
        advisors = {
            entry.method: result.plan.provenance["metanet"]["digest"]
            for entry, result in zip(self.entries, self.results, strict=True)
            if "metanet" in result.plan.provenance
        }
        return Report(
            title=title,
            command=command,
            score=self.data.task.score,
            higher_is_better=self.data.task.higher_is_better,
            split=self.measuring.split,
            dense=dense.metrics,
            interval=own,
            chosen_by=self._chosen_by(),
            examples=len(self.data.split(self.measuring.split).take(self.measuring.limit)),
            cost=measure(self.job.net),
            **_told(latencies.get("dense")),
            timing=self._timing(latencies),
            entries=tuple(
                replace(entry, **_told(latencies.get(str(i)))) for i, entry in enumerate(entries)
            ),
            nodes=nodes,
            edges=edges,
            config=config,
            provenance={
                "command": typed,
                "date": today(),
                "seed": seed,
                "fingerprints": {**digests, **advisors},
                "versions": versions(),
                "machine": machine(),
            },
        )

    def _drawn(self, dense: Tensor) -> tuple[tuple[float, float], list[Entry]]:
        """The interval of the dense network, and the entries with what chance could do to them."""
        task = self.data.task

        def scores(means: Tensor) -> tuple[float, float]:
            low, high = interval(means)
            return task.score_of(low), task.score_of(high)

        means = drawn_means([dense, *self.outcomes]).T
        own = {DENSE: means[0]}
        entries = []
        for entry, mean in zip(self.entries, means[1:], strict=True):
            rivals = own | {
                other.method: drawn
                for other, drawn in zip(self.entries, means[1:], strict=True)
                if other.asked == entry.asked and other is not entry
            }
            better = [
                name
                for name, drawn in rivals.items()
                if behind(mean, drawn, higher_is_better=task.higher_is_better)
            ]
            entries.append(replace(entry, interval=scores(mean), behind=tuple(better)))
        return scores(means[0]), entries

    def _chosen_by(self) -> dict[str, Any]:
        if not any(entry.held_out for entry in self.entries):
            return {}
        split = self.data.split(CHOSEN_BY).take(self.measuring.limit)
        return {"split": CHOSEN_BY, "examples": len(split)}

    def _latencies(self) -> dict[str, Latency]:
        """Of "dense" and of every result by its place, all measured in turns; or nothing."""
        networks = {str(place): result.model for place, result in enumerate(self.results)}
        return self.measuring.latency.compare({"dense": self.model, **networks}, self.data)

    def _timing(self, latencies: Mapping[str, Latency]) -> dict[str, Any]:
        """How latencies were measured; nothing where none were."""
        if not latencies:
            return {}
        device = device_of(self.model).type
        return {
            "repeats": latencies["dense"].repeats,
            "batch_size": self.measuring.latency.batch_size,
            "device": device,
            **({"threads": torch.get_num_threads()} if device == "cpu" else {}),
        }


def _told(latency: Latency | None) -> dict[str, Any]:
    """A latency as reports hold it, in milliseconds: median and quartiles."""
    if latency is None:
        return {}
    low, median, high = (1e3 * x for x in (latency.low, latency.median, latency.high))
    return {"latency_ms": median, "latency_range_ms": (low, high)}
