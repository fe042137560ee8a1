"""Recovery method "bias": what removed units contributed on average goes into biases and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruners.recovery.base import Pruning, Stage, recovery
from pruners.recovery.compensation import compensate_bias, input_means
from pruners.recovery.norm_scales import compensate_norms


@recovery("bias")
@dataclass(frozen=True)
class Bias:
    """Fold the mean of removed units into biases, and scale norms by the energy that stays."""

    name: ClassVar[str] = "bias"
    stage: ClassVar[Stage] = "before"
    serves: ClassVar[frozenset[str]] = frozenset({"axes"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches"})

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        if not pruning.plan.kept:
            return
        net = pruning.dense
        model, kept = net.to_model(), pruning.plan.keeps(net)
        means = input_means(net, model, pruning.batches)
        compensation = compensate_bias(net, kept, means)
        scales = compensate_norms(net, model, kept, pruning.batches)
        pruning.base = pruning.base.replace(compensation.values).replace(scales)
        notes = pruning.notes
        if compensation.values or compensation.uncompensated:
            notes.append(compensation.status)
        if scales:
            notes.append(f"Norms scaled by the energy that stays: {len(scales)}.")
