"""One network, several targets, several ways to divide the budget, measured alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from graphs import Network, trace
from graphs.tools.files import refuse_filled
from metaprune.applying import apply_network, finetuned
from metaprune.calibration import Calibration
from metaprune.patterns.blocks import IMITATION
from metaprune.patterns.low_rank import default_rule
from metaprune.planning import check, default_solver, plan_network
from metaprune.report import Entry, Layer, Report, words
from metaprune.report.outline import outline
from metaprune.results.provenance import machine, versions
from metaprune.results.result import Result
from metaprune.saving.export import check as check_format
from pruners import Target, budgets, fingerprint, measure
from pruners.plan import BLOCKS, CHANNELS, factors_of
from training import FinetuneConfig, compare_latency, evaluate
from training.data.core import Data


@dataclass(frozen=True)
class Method:
    """A way to prune: its name in the report, its metanetwork (or None), its budget."""

    name: str
    metanet: str | None
    budget: str | Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """How a study prunes and measures; the same for every method.

    Args:
        pattern, solver, min_units, round_to, uniform: see `metaprune.plan`.
        compensate, repair, recalibrate: see `metaprune.apply`.
        finetune: None for one-shot results only.
        export: formats (`metaprune.saving.export`) in which saved networks are written too.
        split: part of the data that is reported.
        limit: examples of it, None for all.
        latency_batch: examples in the timed forward pass; 0 measures none.
        latency_repeats: timed passes of every network, in turns.
    """

    pattern: str = CHANNELS
    solver: str | None = None
    min_units: float | int = 0.05
    round_to: int = 1
    uniform: bool = False
    compensate: bool | str = True
    repair: bool | str = True
    recalibrate: bool = True
    finetune: FinetuneConfig | None = None
    export: Sequence[str] = ()
    split: str = "test"
    limit: int | None = None
    latency_batch: int = 16
    latency_repeats: int = 30


def methods(
    metanet: str | None,
    budget: str | Mapping[str, Any] | None,
    compare: Sequence[str | Mapping[str, Any]],
    pattern: str = CHANNELS,
    measured: bool = True,
) -> list[Method]:
    """The method that was asked for, then the baselines, which see no metanetwork.

    Args:
        metanet: name or path, or None.
        budget: of the first method; "metanet" when None and there is one.
        compare: budgets of the baselines.
        pattern: blocks are chosen in one way only, without baselines; no metanetwork has learned
            ranks.
        measured: whether there is calibration data.

    Raises:
        ValueError: a baseline named "metanet".
    """
    if pattern == BLOCKS:
        rule = budget or IMITATION
        return [Method(budgets.named(rule)[0], None, rule)]
    if "metanet" in compare:
        raise ValueError('compare lists baselines such as "uniform"; the metanetwork is `metanet`')
    if factors_of(pattern):
        metanet, budget = None, budget or default_rule(pattern, measured)
    first = budget or ("metanet" if metanet else None)
    found = [] if first is None else [Method(budgets.named(first)[0], metanet, first)]
    named = {method.name for method in found if method.metanet is None}
    others = [(budgets.named(rule)[0], rule) for rule in compare]
    found += [Method(name, None, rule) for name, rule in others if name not in named]
    if not found:
        raise ValueError("nothing to do: give metanet, budget or compare")
    return found


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
        settings: the same for every method.
        source: how `training.models.load` builds the dense architecture, if it can; for saving.
        console: where progress is told.
    """

    model: nn.Module
    data: Data
    calibration: Calibration | None
    settings: Settings
    source: Mapping[str, Any] | None = None
    console: Console = field(default_factory=Console)
    entries: list[Entry] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.example = self.data.example_inputs()
        self.net: Network = trace(self.model, self.example)

    def run(
        self, targets: Sequence[Mapping[str, Any]], chosen: Sequence[Method], folder: Path | None
    ) -> None:
        """Prune to every target by every method.

        Targets out of reach and folders in use are refused before any work.

        Args:
            targets: mappings that `Target.parse` reads; for N:M patterns one empty mapping.
            chosen: the methods; the first one's networks are saved.
            folder: for the networks; None saves nothing.
        """
        settings = self.settings
        wanted = [Target.parse(target) if target else None for target in targets]
        for target in wanted:
            if target is not None and settings.pattern == CHANNELS:
                target.check(self.net)
        if folder is not None:
            for target in wanted:
                refuse_filled(folder / _folder_name(target.asked if target else {}))
        for kind in settings.export:
            check_format(kind)
        for method in chosen:
            rule, _ = budgets.named(method.budget)
            solver = settings.solver or default_solver(
                settings.pattern, self.calibration is not None
            )
            check(settings.pattern, rule, solver, method.metanet)
        for target in wanted:
            for index, method in enumerate(chosen):
                self._one(target, method, folder if index == 0 else None)

    def _one(self, target: Target | None, method: Method, folder: Path | None) -> None:
        settings = self.settings
        started = time.perf_counter()
        plan = plan_network(
            self.net,
            self.model,
            target=target,
            pattern=settings.pattern,
            metanet=method.metanet,
            budget=method.budget,
            solver=settings.solver,
            calibration=self.calibration,
            min_units=settings.min_units,
            round_to=settings.round_to,
            uniform=settings.uniform,
        )
        planned = round(time.perf_counter() - started, 4)
        result = apply_network(
            self.net,
            self.model,
            plan,
            example_inputs=self.example,
            calibration=self.calibration,
            compensate=settings.compensate,
            repair=settings.repair,
            recalibrate=settings.recalibrate,
        )
        before = self.measure(result.model)
        after: dict[str, float] = {}
        if settings.finetune is not None:
            result = finetuned(result, self.data, settings.finetune, teacher=self.model)
            after = self.measure(result.model)
        name = None
        if folder is not None:
            name = _folder_name(plan.asked)
            result.save(folder / name, source=self.source)
            plan.save(folder / f"{name.replace('model', 'plan', 1)}.json")
            result = self._exported(result, folder / name)
        report = result.report
        entry = Entry(
            method=method.name,
            asked=dict(plan.asked) or {"pattern": plan.pattern},
            achieved=report["achieved"],
            before=before,
            after=after,
            layers=tuple(Layer(**layer) for layer in report["layers"]),
            notes=tuple(report["notes"]),
            seconds={"plan": planned, **report["seconds"]},
            folder=name,
        )
        self.entries.append(entry)
        self.results.append(result)
        self._tell(entry)

    def _exported(self, result: Result, folder: Path) -> Result:
        """The result, written in other formats; a failure is told, and does not end the study."""
        notes = []
        for kind in self.settings.export:
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
            f"{entry.method} at {words.asked(entry.asked)}: {entry.achieved['speedup']:.2f}× fewer "
            f"MACs, {score} {found}",
            highlight=False,
        )

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Metrics on the reported split."""
        return evaluate(model, self.data, self.settings.split, limit=self.settings.limit)

    def report(self, title: str, command: str, config: Mapping[str, Any], seed: int) -> Report:
        """Everything found out, with measured latencies.

        Args:
            title: of the report.
            command: that made it.
            config: its settings.
            seed: of the run.
        """
        latencies = self._latencies()
        nodes, edges = outline(self.net)
        digests = {**fingerprint(self.net), "data": self.data.fingerprint[:16]}
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
            split=self.settings.split,
            dense=self.measure(self.model),
            cost=measure(self.net),
            latency_ms=latencies[0],
            entries=tuple(
                replace(entry, latency_ms=value)
                for entry, value in zip(self.entries, latencies[1:], strict=True)
            ),
            nodes=nodes,
            edges=edges,
            config=config,
            provenance={
                "seed": seed,
                "fingerprints": {**digests, **advisors},
                "versions": versions(),
                "machine": machine(),
            },
        )

    def _latencies(self) -> list[float | None]:
        """Milliseconds of the dense network, then of every result; all measured in turns."""
        models = [self.model, *(result.model for result in self.results)]
        size = self.settings.latency_batch
        if size == 0:
            return [None] * len(models)
        inputs = self.data.example_inputs(size)
        found = compare_latency(
            {str(i): model for i, model in enumerate(models)},
            inputs,
            repeats=self.settings.latency_repeats,
        )
        return [1e3 * found[str(i)].median for i in range(len(models))]
