"""`metaprune inspect`: what may be pruned, what is left alone and why, what is reachable."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from graphs.tools.files import refuse_filled
from metaprune.calibration import Calibration
from metaprune.cli.config import check_groups, load_data, load_model, typed
from metaprune.cli.progress import Progress
from metaprune.inspection import inspect
from metaprune.inspection.examples import from_model, from_shapes
from metaprune.inspection.faces.terminal import show
from metaprune.settings import Settings


@dataclass(frozen=True)
class InspectConfig:
    """Settings of `conf/inspect.yaml`, which says what each means."""

    model: Mapping[str, Any]
    data: Mapping[str, Any] | None = None
    inputs: Any = None
    min_units: float | int = 0.05
    ignore: Sequence[str] = ()
    latency: int = 0
    examples: int = 0
    rows: int = 20
    out: str | None = None
    progress: bool = True
    json: bool = False

    def __post_init__(self) -> None:
        for name in ("latency", "examples", "rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 (got {getattr(self, name)})")
        Settings(min_units=self.min_units)


def run(config: DictConfig) -> None:
    """Trace and print; no weights are changed and nothing is trained."""
    settings, _ = typed(InspectConfig, config)
    if settings.out:
        refuse_filled(settings.out)
    check_groups(settings.model, settings.data)
    steps = Progress(Console(stderr=settings.json), settings.progress)
    with steps.step("loading the network"):
        model = load_model(settings.model)
    with steps.step("loading the data"):
        inputs, calibration = _inputs(settings, model), _calibration(settings)
    with steps.step("inspecting"):
        found = inspect(
            model,
            inputs,
            min_units=settings.min_units,
            ignore=settings.ignore,
            latency=settings.latency,
            calibration=calibration,
        )
    if settings.out:
        found.save(settings.out)
    if settings.json:
        sys.stdout.write(found.to_json())
        return
    console = Console()
    show(found, console, settings.rows)
    if settings.out:
        console.print(f"\n{settings.out}/inspection.html", highlight=False)


def _calibration(settings: InspectConfig) -> Calibration | None:
    """Examples of the data, by which expected losses are drawn.

    Raises:
        ValueError: examples of no data.
    """
    if not settings.examples:
        return None
    if not settings.data:
        raise ValueError("examples are taken of a data set: name one, such as data=digits")
    return Calibration.from_data(load_data(settings.data), examples=settings.examples)


def _inputs(settings: InspectConfig, model: nn.Module) -> Any:
    """Inputs that were described, or of the data, or of the shape that the model is known for."""
    if settings.inputs is not None:
        return from_shapes(settings.inputs, model)
    if settings.data:
        return load_data(settings.data).example_inputs()
    shape = settings.model.get("shape")
    return from_shapes([2, *shape], model) if shape else from_model(model)
