"""`metaprune evaluate`: metrics, costs and latency of a network, dense or pruned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from graphs import trace
from graphs.tools.files import write_text
from metaprune.cli.config import check_groups, load_data, load_model, run_folder, typed
from metaprune.cli.progress import Progress
from metaprune.cli.settings import EvaluationSettings, LatencySettings
from metaprune.report import words
from metaprune.results.provenance import machine, versions
from pruners import fingerprint, measure
from training import evaluate
from training.config import check_positive


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `conf/evaluate.yaml`, which says what each means."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    split: Literal["test", "validation", "train"]
    limit: int | None
    batch_size: int
    latency: LatencySettings
    progress: bool
    json: bool

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        EvaluationSettings(self.split, self.limit)


def run(config: DictConfig) -> None:
    """Measure and print; the run folder gets `evaluation.json`."""
    settings, content = typed(EvaluateConfig, config)
    check_groups(settings.model, settings.data)
    steps = Progress(Console(stderr=settings.json), settings.progress)
    with steps.step("loading the data"):
        data = load_data(settings.data)
    with steps.step("loading the network"):
        model = load_model(settings.model)
    with steps.step("measuring"):
        metrics = evaluate(
            model, data, settings.split, limit=settings.limit, batch_size=settings.batch_size
        )
        net = trace(model, data.example_inputs())
    cost = {name: measure(net)[name] for name in ("macs", "params", "size_mb")}
    timed = settings.latency.compare({"model": model}, data).get("model")
    latency = None
    if timed is not None:
        latency = {name: 1e3 * getattr(timed, name) for name in ("median", "low", "high")}
    found = {
        "split": settings.split,
        "metrics": metrics,
        "cost": cost,
        "latency_ms": latency,
        "provenance": {
            "fingerprints": {**fingerprint(net), "data": data.fingerprint[:16]},
            "versions": versions(),
            "machine": machine(),
        },
        "config": content,
    }
    text = json.dumps(found, indent=2, ensure_ascii=False)
    write_text(run_folder(content) / "evaluation.json", text + "\n")
    console = Console()
    if settings.json:
        console.out(text, highlight=False)
        return
    title = f"{type(model).__name__} on {data.name}, {settings.split} split"
    console.print(_table(title, metrics, cost, latency, settings.latency.batch_size))


def _table(
    title: str,
    metrics: Mapping[str, float],
    cost: Mapping[str, float],
    latency: Mapping[str, float] | None,
    batch_size: int,
) -> Table:
    """What was measured, a line each; latency in milliseconds, the median and the quartiles."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in metrics.items():
        table.add_row(words.label(name).removesuffix(" (%)"), words.metric(name, value))
    table.add_row("MACs", words.count(cost["macs"]))
    table.add_row("parameters", words.count(cost["params"]))
    table.add_row("size", f"{cost['size_mb']:.3g} MB")
    if latency is not None:
        low, high = latency["low"], latency["high"]
        told = f"{words.duration(latency['median'])} ({low:.3g} to {high:.3g})"
        table.add_row(f"latency, batch of {batch_size}", told)
    table.show_header = False
    return table
