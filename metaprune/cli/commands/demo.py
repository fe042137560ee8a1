"""`metaprune demo`: the whole road on a small network, in under three minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

import metanet
from metaprune.advice import find
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
from metaprune.report import print_table, words, write
from metaprune.settings import Settings
from training import FitConfig, fit
from training.config import from_mapping


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `conf/demo.yaml`, which says what each means."""

    title: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    fit: Mapping[str, Any]
    speedups: Sequence[float]
    metanet: str | None
    compare: Sequence[str]
    calibration: CalibrationSettings
    finetune: Mapping[str, Any]
    latency: LatencySettings
    threads: int | None
    seed: int


def run(config: DictConfig) -> None:
    """Train, prune, finetune, compare, report."""
    started = time.perf_counter()
    settings, content = typed(DemoConfig, config)
    pruning = Settings.of(
        metanet=settings.metanet, recovery=["default", {"finetune": dict(settings.finetune)}]
    )
    targets = [{"speedup": speedup} for speedup in settings.speedups]
    chosen = methods(pruning, settings.compare)
    check_methods(pruning, targets, chosen, settings.calibration.examples > 0)
    check_groups(settings.model, settings.data)
    training = from_mapping(FitConfig, settings.fit, "fit")
    if settings.metanet is not None:
        metanet.load(find(settings.metanet))  # a damaged file is found before the training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console()
    data, model = load_data(settings.data), load_model(settings.model)
    score = data.task.score
    console.print("training the dense network", highlight=False)
    trained = fit(model, data, training)
    model.eval()
    best = words.metric(score, trained.best[score])
    console.print(f"dense: {score} {best} on validation", highlight=False)
    study = Study(
        model,
        data,
        settings.calibration.of(data, settings.seed),
        pruning,
        Measuring(latency=settings.latency),
        architecture(settings.model),
        console=console,
    )
    folder = run_folder(content)
    study.run(targets, chosen, folder)
    report = study.report(settings.title, "demo", content, settings.seed, typed_command())
    print_table(report, console)
    _, page = write(report, folder)
    console.print(
        f"report: {page}\n{time.perf_counter() - started:.0f} s in all",
        highlight=False,
        soft_wrap=True,
    )
