"""Plan and apply in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graphs import trace
from graphs.calls.refusals import unwrapped
from metaprune.applying import apply_network, checked_finetune, finetuned, in_place
from metaprune.calibration import Calibration
from metaprune.planning import plan_network
from metaprune.results.result import Result
from pruners import Target
from pruners.plan import CHANNELS
from training.data.core import Data
from training.recovery.finetune import FinetuneConfig


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: Mapping[str, Any] | Target | None = None,
    pattern: str = CHANNELS,
    metanet: str | Path | None = "default",
    budget: str | Mapping[str, Any] | None = None,
    solver: str | None = None,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    finetune: FinetuneConfig | Mapping[str, Any] | None = None,
    min_units: float | int = 0.05,
    round_to: int = 1,
    uniform: bool = False,
    compensate: bool | str = True,
    repair: bool | str = True,
    recalibrate: bool = True,
    inplace: bool = False,
) -> Result:
    """Prune a model to a target; the model itself is left as it was, unless `inplace` asks for it.

        result = metaprune.prune(model, (images,), target={"macs": "50%"}, calibration=batches)

    For the arguments and errors see `metaprune.plan` and `metaprune.apply`; with `data` alone, the
    calibration is taken from its training split.
    """
    settings = checked_finetune(finetune, data)
    model = unwrapped(model)
    net = trace(model, example_inputs)
    found = Calibration.choose(calibration, data)
    made = plan_network(
        net,
        model,
        target=target,
        pattern=pattern,
        metanet=metanet,
        budget=budget,
        solver=solver,
        calibration=found,
        min_units=min_units,
        round_to=round_to,
        uniform=uniform,
    )
    result = apply_network(
        net,
        model,
        made,
        example_inputs=example_inputs,
        calibration=found,
        compensate=compensate,
        repair=repair,
        recalibrate=recalibrate,
    )
    if settings is not None and data is not None:
        result = finetuned(result, data, settings, teacher=model)
    return in_place(result, model) if inplace else result
