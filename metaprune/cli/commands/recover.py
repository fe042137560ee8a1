"""`metaprune recover`: train a pruned network further, measure it before and after, save it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from graphs.tools.files import write_text
from metaprune.cli.config import (
    architecture,
    check_groups,
    listed,
    load_data,
    load_model,
    run_folder,
    tracked,
    typed,
)
from metaprune.cli.progress import Progress
from metaprune.cli.settings import CalibrationSettings, EvaluationSettings
from metaprune.planning import made
from metaprune.recovering import recover
from metaprune.report import words
from training import evaluate, sources
from training.fitting import tracking

FOLDER = "model"
"""Of the recovered network, inside of the folder of the run."""


@dataclass(frozen=True)
class RecoverConfig:
    """Settings of `conf/recover.yaml`, which says what each means."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    teacher: Mapping[str, Any] | None
    recovery: Sequence[str | Mapping[str, Any]]
    calibration: CalibrationSettings
    evaluate: EvaluationSettings
    checkpoints: str | None
    save: bool
    track: str | Sequence[str] | None
    progress: bool
    seed: int


def run(config: DictConfig) -> None:
    """Recover, measure, save; the run folder gets `recovered.json`."""
    settings, content = typed(RecoverConfig, config)
    learners = [method.name for method in made(settings.recovery) if "teacher" in method.needs]
    tracking.check(listed(settings.track))
    check_groups(settings.model, settings.data)
    if settings.teacher is not None:
        sources.check_settings(settings.teacher, "teacher")
    elif learners:
        raise ValueError(
            f'recovery method "{learners[0]}" learns from the dense network: give it, such as '
            "'teacher={source: transformers, path: DIR}'"
        )
    console = Console()
    steps = Progress(console, settings.progress)
    with steps.step("loading the data"):
        data = load_data(settings.data)
    with steps.step("loading the network"):
        model = load_model(settings.model)
        teacher = None if settings.teacher is None else load_model(settings.teacher)
    folder = run_folder(content)
    with steps.step("recovering"), tracked(settings.track, folder, content):
        result = recover(
            model,
            data.example_inputs(),
            settings.recovery,
            teacher=teacher,
            calibration=settings.calibration.of(data, settings.seed),
            data=data,
            checkpoints=settings.checkpoints,
            seed=settings.seed,
        )
    networks = {"pruned": model, "recovered": result.model}
    if teacher is not None:
        networks = {"dense": teacher, **networks}
    with steps.step("measuring"):
        figures = {
            name: evaluate(net, data, settings.evaluate.split, limit=settings.evaluate.limit)
            for name, net in networks.items()
        }
    found = {"figures": figures, "report": result.report, "config": content}
    write_text(folder / "recovered.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if settings.save:
        result.save(folder / FOLDER, source=architecture(settings.model))
    for name, row in figures.items():
        told = ", ".join(f"{key.replace('_', ' ')} {words.metric(key, row[key])}" for key in row)
        console.print(f"{name}: {told}", highlight=False)
    for note in result.report["notes"]:
        console.print(note, highlight=False)
    if settings.save:
        console.print(f"saved: {folder / FOLDER}", highlight=False, soft_wrap=True)
