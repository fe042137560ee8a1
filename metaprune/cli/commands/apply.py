"""`metaprune apply`: carry out a plan on a network, measure both, save the pruned one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from graphs.tools.files import write_text
from metaprune.api import apply
from metaprune.cli.config import (
    architecture,
    check_groups,
    load_data,
    load_model,
    run_folder,
    typed,
)
from metaprune.cli.progress import Progress
from metaprune.cli.settings import CalibrationSettings, EvaluationSettings, LatencySettings
from metaprune.planning import made
from metaprune.report import words
from metaprune.result import Result
from pruners import Plan
from training import evaluate

FOLDER = "model"
"""Of the pruned network, inside of the folder of the run."""


@dataclass(frozen=True)
class ApplyConfig:
    """Settings of `conf/apply.yaml`, which says what each means."""

    plan: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    calibration: CalibrationSettings
    recovery: Sequence[str | Mapping[str, Any]] | None
    evaluate: EvaluationSettings
    latency: LatencySettings
    save: bool
    progress: bool
    seed: int


def run(config: DictConfig) -> None:
    """Carry out, measure, save; the run folder gets `applied.json`."""
    settings, content = typed(ApplyConfig, config)
    plan = Plan.load(settings.plan)
    made([one for one in settings.recovery or () if one != "default"])
    check_groups(settings.model, settings.data)
    console = Console()
    steps = Progress(console, settings.progress)
    with steps.step("loading the data"):
        data = load_data(settings.data)
    with steps.step("loading the network"):
        model = load_model(settings.model)
    with steps.step("carrying out the plan"):
        result = apply(
            model,
            data.example_inputs(),
            plan,
            calibration=settings.calibration.of(data, settings.seed),
            data=data,
            recovery=settings.recovery,
            seed=settings.seed,
        )
    networks = {"dense": model, "pruned": result.model}
    with steps.step("measuring both networks"):
        figures = {
            name: evaluate(net, data, settings.evaluate.split, limit=settings.evaluate.limit)
            for name, net in networks.items()
        }
        timed = settings.latency.compare(networks, data)
        latency_ms = {name: 1e3 * one.median for name, one in timed.items()}
    found = {
        "figures": figures,
        "latency_ms": latency_ms,
        "report": result.report,
        "config": content,
    }
    folder = run_folder(content)
    write_text(folder / "applied.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if settings.save:
        result.save(folder / FOLDER, source=architecture(settings.model))
    title = f"{Path(settings.plan).name} on {data.name}, {settings.evaluate.split} split"
    console.print(_table(title, result, figures, latency_ms))
    for note in result.report["notes"]:
        console.print(note, highlight=False)
    if settings.save:
        console.print(f"saved: {folder / FOLDER}", highlight=False, soft_wrap=True)


def _table(
    title: str,
    result: Result,
    figures: Mapping[str, Mapping[str, float]],
    latency_ms: Mapping[str, float],
) -> Table:
    """The dense network beside the pruned one, a quantity a line."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("dense", justify="right")
    table.add_column("pruned", justify="right")
    for name in figures["dense"]:
        values = (words.metric(name, figures[which][name]) for which in ("dense", "pruned"))
        table.add_row(words.label(name).removesuffix(" (%)"), *values)
    costs = result.report["dense"], result.report["achieved"]
    for name, label in (("macs", "MACs"), ("params", "parameters")):
        table.add_row(label, *(words.count(cost[name]) for cost in costs))
    saved = words.saved(result.report["achieved"], result.report["dense"]["params"])
    table.add_row("saved", "", saved)
    if latency_ms:
        table.add_row("latency", *(words.duration(latency_ms[which]) for which in latency_ms))
    return table
