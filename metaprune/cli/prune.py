"""`metaprune prune`: prune a network to one or several targets, and compare with the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from metaprune.calibration import Calibration
from metaprune.cli import config as opened
from metaprune.cli.study import Settings, Study, methods
from metaprune.report import print_table, write
from pruners.plan import CHANNELS, mask_of
from training import FinetuneConfig


@dataclass(frozen=True)
class PruneConfig:
    """Settings of `conf/prune.yaml`, which says what each means."""

    title: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    target: Mapping[str, Any]
    pattern: str
    metanet: str | None
    budget: str | Mapping[str, Any] | None
    solver: str | None
    compare: Sequence[str | Mapping[str, Any]]
    calibration: Mapping[str, Any]
    min_units: float | int
    round_to: int
    uniform: bool
    compensate: bool | str
    repair: bool | str
    recalibrate: bool
    evaluate: Mapping[str, Any]
    latency: Mapping[str, int]
    save: bool
    export: str | Sequence[str] | None
    seed: int
    finetune: Mapping[str, Any] | None = None


def run(config: DictConfig) -> None:
    """Prune, measure, compare, report."""
    settings, content = opened.typed(PruneConfig, config)
    targets = spread(settings.target, settings.pattern)
    chosen = methods(
        settings.metanet,
        settings.budget,
        settings.compare,
        settings.pattern,
        measured=settings.calibration["examples"] != 0,
    )
    study_settings = Settings(
        pattern=settings.pattern,
        solver=settings.solver,
        min_units=settings.min_units,
        round_to=settings.round_to,
        uniform=settings.uniform,
        compensate=settings.compensate,
        repair=settings.repair,
        recalibrate=settings.recalibrate,
        finetune=None if settings.finetune is None else FinetuneConfig.parse(settings.finetune),
        export=_listed(settings.export),
        **_evaluation(settings.evaluate),
        latency_batch=settings.latency["batch_size"],
        latency_repeats=settings.latency["repeats"],
    )
    console = Console()
    data, model = opened.load_data(settings.data), opened.load_model(settings.model)
    study = Study(
        model,
        data,
        calibration(settings.calibration, data, settings.seed),
        study_settings,
        opened.architecture(settings.model),
        console,
    )
    folder = opened.run_folder(content)
    study.run(targets, chosen, folder if settings.save else None)
    report = study.report(settings.title, "prune", content, settings.seed)
    print_table(report, console)
    _, page = write(report, folder)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def calibration(settings: Mapping[str, Any], data: Any, seed: int) -> Calibration | None:
    """Batches of the training split, or None for no examples; without a loss for no gradients."""
    options = dict(settings)
    gradients = options.pop("gradients")
    if options["examples"] == 0:
        return None
    found = Calibration.from_data(data, seed=seed, **options)
    return found if gradients else Calibration(found.batches, found.inputs)


def spread(target: Mapping[str, Any], pattern: str = CHANNELS) -> list[dict[str, Any]]:
    """One target for each point: lists are taken point by point, single values hold for all.

    Args:
        target: metric → amount, list of amounts, or None for a metric that is not asked.
        pattern: what is pruned; N:M needs no target.

    Raises:
        ValueError: nothing asked, or lists of different lengths.
    """
    asked = {name: value for name, value in target.items() if value is not None}
    mask = mask_of(pattern)
    if not asked and mask is not None and mask.m:
        return [{}]
    if not asked:
        raise ValueError(
            f"say what to reach, for instance target.speedup=2 (one of {', '.join(target)})"
        )
    lengths = {len(value) for value in asked.values() if isinstance(value, list)} or {1}
    if len(lengths) > 1:
        raise ValueError(f"targets given as lists must have one length (got {asked})")
    return [
        {name: value[i] if isinstance(value, list) else value for name, value in asked.items()}
        for i in range(lengths.pop())
    ]


def _listed(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _evaluation(settings: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(settings) - {"split", "limit"})
    if unknown:
        raise ValueError(f"evaluate has no setting {unknown[0]!r}; it has: split, limit")
    return dict(settings)
