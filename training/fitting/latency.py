"""Measured latency, fair to both sides: the models take turns, so drifts hit all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphs.calls.running import evaluation
from training.fitting.evaluate import device_of


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass.

    Args:
        median, low, high: over the repeats; `low` and `high` are the quartiles.
        ratio: median over the repeats of this model's time over the first model's in the same
            turn; 1 for the first.
    """

    median: float
    low: float
    high: float
    ratio: float


@torch.no_grad()
def compare_latency(
    models: Mapping[str, nn.Module],
    inputs: tuple[Tensor, ...] | Mapping[str, Tensor],
    *,
    repeats: int = 30,
    warmup: int = 3,
) -> dict[str, Latency]:
    """Measure models in turns on the same inputs, in evaluation mode.

    The number of threads is the caller's (`torch.set_num_threads`); so is the batch size.

    Args:
        models: name -> model; the first is what the others are compared to.
        inputs: arguments of the forward pass, on the models' device.
        repeats: turns that count.
        warmup: turns before them that do not.

    Raises:
        ValueError: if there is no model, or fewer than 2 repeats.
    """
    if not models or repeats < 2:
        raise ValueError(f"latency needs a model and 2 repeats (got {len(models)}, {repeats})")
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(warmup + repeats):
        for name, model in models.items():
            seconds = _once(model, inputs)
            if turn >= warmup:
                times[name].append(seconds)
    first = next(iter(times.values()))
    return {name: _summary(measured, first) for name, measured in times.items()}


def _once(model: nn.Module, inputs: tuple[Tensor, ...] | Mapping[str, Tensor]) -> float:
    cuda = device_of(model).type == "cuda"
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
    with evaluation(model):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        model(*args, **kwargs)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _summary(times: list[float], first: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    ratio = statistics.median(own / other for own, other in zip(times, first, strict=True))
    return Latency(median, low, high, ratio)
