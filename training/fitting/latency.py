"""Measured latency, fair to both sides: the models take turns, so drifts hit all of them.

Turns go on until every median is known well enough, or time is up. On a GPU events on its stream
measure, so that the launch of kernels from Python counts only where the device waits for it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from graphs.calls.running import evaluation
from training.fitting.evaluate import device_of

WARMUP, WARMUP_GPU = 3, 10
"""Turns before those that count: a GPU compiles kernels and raises its clock."""

NOTCH = 1.57
"""Half the 95 % interval of a median is about 1.57 · quartile range / √n (McGill et al. 1978)."""


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass.

    Args:
        median, low, high: over the repeats; `low` and `high` are the quartiles.
        ratio: median over the repeats of this model's time over the first model's in the same
            turn; 1 for the first.
        repeats: turns that count.
    """

    median: float
    low: float
    high: float
    ratio: float
    repeats: int

    @property
    def error(self) -> float:
        """Half the width of the 95 % interval of the median, seconds."""
        return NOTCH * (self.high - self.low) / sqrt(self.repeats)


@torch.no_grad()
def compare_latency(
    models: Mapping[str, nn.Module],
    inputs: tuple[Tensor, ...] | Mapping[str, Tensor],
    *,
    repeats: int = 30,
    within: float = 0.02,
    seconds: float = 0.0,
    warmup: int | None = None,
) -> dict[str, Latency]:
    """Measure models in turns on the same inputs, in evaluation mode.

    The number of threads is the caller's (`torch.set_num_threads`); so is the batch size.

    Args:
        models: name -> model; the first is what the others are compared to.
        inputs: arguments of the forward pass, on the models' device.
        repeats: turns that count, at least.
        within: turns go on until every median is known to this share of itself (95 %),
        seconds: or this time is over, whichever is first; 0 for `repeats` turns and no more.
        warmup: turns before them that do not count; None for 3, or 10 on a GPU.

    Raises:
        ValueError: if there is no model, or fewer than 2 repeats.
    """
    if not models or repeats < 2:
        raise ValueError(f"latency needs a model and 2 repeats (got {len(models)}, {repeats})")
    if warmup is None:
        cuda = any(device_of(model).type == "cuda" for model in models.values())
        warmup = WARMUP_GPU if cuda else WARMUP
    for _ in range(warmup):
        for model in models.values():
            _once(model, inputs)
    times: dict[str, list[float]] = {name: [] for name in models}
    started = time.perf_counter()
    while True:
        for name, model in models.items():
            times[name].append(_once(model, inputs))
        if len(next(iter(times.values()))) < repeats:
            continue
        first = next(iter(times.values()))
        found = {name: _summary(measured, first) for name, measured in times.items()}
        known = all(one.error <= within * one.median for one in found.values())
        if known or time.perf_counter() - started >= seconds:
            return found


def _once(model: nn.Module, inputs: tuple[Tensor, ...] | Mapping[str, Tensor]) -> float:
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
    with evaluation(model):
        if device_of(model).type != "cuda":
            start = time.perf_counter()
            model(*args, **kwargs)
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        model(*args, **kwargs)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def _summary(times: list[float], first: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    ratio = statistics.median(own / other for own, other in zip(times, first, strict=True))
    return Latency(median, low, high, ratio, len(times))
