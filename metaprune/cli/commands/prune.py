"""`metaprune prune`: prune a network to one or several targets, and compare with the baselines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from metaprune.cli.config import (
    architecture,
    check_groups,
    listed,
    load_data,
    load_model,
    plain,
    run_folder,
    tracked,
    typed_command,
    untrained,
)
from metaprune.cli.methods import check_methods, methods
from metaprune.cli.progress import Progress
from metaprune.cli.settings import CalibrationSettings, EvaluationSettings, LatencySettings
from metaprune.cli.study import Measuring, Study
from metaprune.patterns import parse
from metaprune.report import print_table, write
from metaprune.saving.export import check as check_format
from metaprune.settings import Settings
from pruners.targets import METRICS
from training import FinetuneConfig
from training.config import check_names, from_mapping
from training.fitting import tracking

UNDONE = ".undone"
"""Folder in that of a run, which keeps what is done until all is."""


@dataclass(frozen=True)
class PruneConfig:
    """What `conf/prune.yaml` holds beside the fields of `metaprune.Settings`."""

    title: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    compare: Sequence[str | Mapping[str, Any]]
    calibration: CalibrationSettings
    evaluate: EvaluationSettings
    latency: LatencySettings
    save: bool
    export: str | Sequence[str] | None
    checkpoints: str | None
    track: str | Sequence[str] | None
    progress: bool
    seed: int
    finetune: Mapping[str, Any] | None = None


def run(config: DictConfig) -> float:
    """Prune, measure, compare, report; the same command in the same folder continues.

    Returns:
        The score of the first method, the mean over all targets: what sweepers may improve.
    """
    content = plain(config)
    options = {key: content[key] for key in (e.name for e in fields(Settings)) if key in content}
    check_names(content, [e.name for cls in (Settings, PruneConfig) for e in fields(cls)], "")
    rest = {key: value for key, value in content.items() if key not in options}
    own = from_mapping(PruneConfig, rest)
    targets = spread(options.pop("target"), options["pattern"])
    settings = Settings.of(**options)
    if own.finetune is not None:
        FinetuneConfig.parse(own.finetune, "finetune")
        recovery = ("default",) if settings.recovery is None else settings.recovery
        told = bool(own.finetune.get("progress", False)) and own.progress
        finetuning = {"finetune": {**own.finetune, "progress": told}}
        settings = replace(settings, recovery=(*recovery, finetuning))
    measured = own.calibration.examples > 0
    chosen = methods(settings, own.compare, measured)
    check_methods(settings, targets, chosen, measured)
    for kind in listed(own.export):
        check_format(kind)
    tracking.check(listed(own.track))
    check_groups(own.model, own.data)
    console = Console()
    if (remark := untrained(own.model)) is not None:
        console.print(remark, style="yellow", highlight=False)
    steps = Progress(console, own.progress)
    with steps.step("loading the data"):
        data = load_data(own.data)
    with steps.step("loading the network"):
        model = load_model(own.model)
    folder = run_folder(content)
    undone = folder / UNDONE
    study = Study(
        model,
        data,
        own.calibration.of(data, own.seed),
        settings,
        Measuring(
            export=listed(own.export),
            split=own.evaluate.split,
            limit=own.evaluate.limit,
            latency=own.latency,
        ),
        architecture(own.model),
        undone if own.checkpoints is None else Path(own.checkpoints),
        console,
        own.progress,
    )
    with tracked(own.track, folder, content):
        study.run(targets, chosen, folder if own.save else None)
    report = study.report(own.title, "prune", content, own.seed, typed_command())
    if remark is not None:
        said = tuple(replace(each, notes=(remark, *each.notes)) for each in report.entries)
        report = replace(report, entries=said)
    print_table(report, console)
    _, page = write(report, folder)
    shutil.rmtree(undone, ignore_errors=True)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    scores = [e.final[report.score] for e in report.entries if e.method == chosen[0].name]
    return sum(scores) / len(scores)


def spread(target: Mapping[str, Any] | None, pattern: str = "channels") -> list[dict[str, Any]]:
    """One target for each point: lists are taken point by point, single values hold for all.

    Args:
        target: metric → amount, list of amounts, or None for a metric that is not asked; None where
            nothing is.
        pattern: what is pruned; N:M needs no target.

    Raises:
        ValueError: nothing asked, no metrics, or lists of different lengths.
    """
    if not isinstance(target, Mapping | None):
        raise ValueError(f"target is metrics with amounts: target.speedup=2 (got target={target})")
    asked = {name: value for name, value in (target or {}).items() if value is not None}
    if not asked and not parse(pattern).chooses:
        return [{}]
    if not asked:
        raise ValueError(
            f"say what to reach, for instance target.speedup=2 (one of {', '.join(METRICS)})"
        )
    lengths = {len(value) for value in asked.values() if isinstance(value, list)} or {1}
    if len(lengths) > 1:
        raise ValueError(f"targets given as lists must have one length (got {asked})")
    return [
        {name: value[i] if isinstance(value, list) else value for name, value in asked.items()}
        for i in range(lengths.pop())
    ]
