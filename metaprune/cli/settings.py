"""Settings that commands share: what they take, and in what range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from metaprune.calibration import Calibration
from training.config import check_positive
from training.data.core import Data
from training.fitting.latency import Latency, compare_latency


@dataclass(frozen=True)
class CalibrationSettings:
    """Which training examples statistics are taken from.

    Args:
        examples: how many; 0 for none.
        batch_size: examples a batch.
        gradients: whether the loss of the task is known, so that its gradients are.
    """

    examples: int = 512
    batch_size: int = 128
    gradients: bool = True

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        if self.examples < 0:
            raise ValueError(f"examples must be at least 0 (got {self.examples})")

    def of(self, data: Data, seed: int) -> Calibration | None:
        """Batches of the training split; None for no examples."""
        if self.examples == 0:
            return None
        found = Calibration.from_data(data, self.examples, self.batch_size, seed)
        return found if self.gradients else replace(found, loss=None)


@dataclass(frozen=True)
class EvaluationSettings:
    """What networks are judged by.

    Args:
        split: of the data; choose on validation, report on test.
        limit: examples of it, None for all.
    """

    split: Literal["test", "validation", "train"] = "test"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_positive(self, "limit")


@dataclass(frozen=True)
class LatencySettings:
    """How forward passes are timed.

    Args:
        batch_size: examples in a pass; 0 times none.
        repeats: timed passes of every network, in turns, at least.
        within: passes go on until every median is known to this share of itself (95 %),
        seconds: or this time is over.
    """

    batch_size: int = 16
    repeats: int = 30
    within: float = 0.02
    seconds: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self, "repeats")
        for name in ("batch_size", "within", "seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 (got {getattr(self, name)})")

    def compare(self, models: Mapping[str, nn.Module], data: Data) -> dict[str, Latency]:
        """Latencies of networks, measured in turns; nothing for a batch of none."""
        if self.batch_size == 0:
            return {}
        return compare_latency(
            models,
            data.example_inputs(self.batch_size),
            repeats=self.repeats,
            within=self.within,
            seconds=self.seconds,
        )
