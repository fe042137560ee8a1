"""Batch-norm recalibration: running statistics of the pruned network instead of the dense one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graphs.calls.running import evaluation, run
from pruners.statistics.calls import function_name


@dataclass(frozen=True)
class Recalibration:
    """How many norms were re-estimated, over how many batches."""

    norms: int
    batches: int

    @property
    def status(self) -> str:
        """One sentence for a person."""
        if self.norms == 0:
            return "No batch norm with running statistics, nothing to recalibrate."
        return f"{self.norms} batch norms recalibrated over {self.batches} batches."


def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Any]) -> Recalibration:
    """Re-estimate the running statistics of every batch norm by a cumulative average.

    mean ← average of the batch means, var ← average of the unbiased batch variances, each over all
    batches with equal weight (Li et al. 2020, "EagleEye", §4). Only the norms use batch statistics;
    dropout and all else run in evaluation mode. Norms are recognised by the function they call, so
    exported graphs are recalibrated as well.

    Args:
        model: changed in place, in the running statistics only; training flags come back as they
            were.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).

    Raises:
        ValueError: no batches, or a batch too small for a variance. The statistics are then the old
            ones, as after any other error.
    """
    norms = _CumulativeNorms()
    seen = 0
    try:
        with evaluation(model), torch.no_grad(), norms:
            for seen, batch in enumerate(batches, start=1):  # noqa: B007
                run(model, batch)
        if seen == 0:
            raise ValueError("batch-norm recalibration needs at least one batch (got none)")
    except BaseException:
        norms.restore()
        raise
    return Recalibration(len(norms.calls), seen)


class _CumulativeNorms(TorchFunctionMode):
    """Every batch norm uses batch statistics and averages them into its running ones."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, int] = {}
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        named = kwargs or {}
        if function_name(function) != "batch_norm":
            return function(*args, **named)
        # The functional form and the operator order their arguments differently.
        order: tuple[str, ...] = (
            ("input", "running_mean", "running_var", "weight", "bias")
            if function is functional.batch_norm
            else ("input", "weight", "bias", "running_mean", "running_var")
        )
        order += ("training", "momentum", "eps")
        given = dict(zip(order, args, strict=False)) | named
        mean, variance = given["running_mean"], given["running_var"]
        if mean is None or variance is None:
            return function(*args, **named)
        return functional.batch_norm(
            given["input"],
            mean,
            variance,
            given.get("weight"),
            given.get("bias"),
            training=True,
            momentum=1.0 / self._count(mean, variance),
            eps=given["eps"],
        )

    def _count(self, mean: torch.Tensor, variance: torch.Tensor) -> int:
        """How often this norm has run, this time included; the old statistics go the first time."""
        if id(mean) not in self.calls:
            for statistic in (mean, variance):
                self._before.append((statistic, statistic.clone()))
                statistic.zero_()
        self.calls[id(mean)] = self.calls.get(id(mean), 0) + 1
        return self.calls[id(mean)]

    def restore(self) -> None:
        """Put the old statistics back."""
        for statistic, before in self._before:
            statistic.copy_(before)
