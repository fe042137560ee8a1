"""What a pruning gives, as a value."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import nn

from graphs import Network
from graphs.calls.copying import copy_module
from metaprune.results.dense import Dense
from metaprune.results.history import inherit
from pruners import Plan


@dataclass(frozen=True, repr=False)
class Pruned:
    """A pruned network.

    Args:
        model: the pruned module, in the class of the original wherever that runs; trainable.
        plan: what was done, from the dense network on: a chain where the model was pruned before;
            replays on other checkpoints of the dense architecture.
        report: asked, dense and achieved costs, the budget of every layer, what was left alone
            and why, the attributes that were repaired (`repaired`: module path or "config", field,
            old, new) and the configured sizes that differ between modules (`varied`), durations,
            settings, versions and fingerprints; plain JSON values.
        network: the pruned network as axes and tensors, before finetuning.
        example_inputs: what the model runs on.
        dense: what is remembered of the dense network.
        masks: parameter name → bool, True where a weight may be non-zero; empty without masks.
    """

    model: nn.Module
    plan: Plan
    report: dict[str, Any]
    network: Network
    example_inputs: Any
    dense: Dense
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        kind, asked = type(self.model).__name__, self.report.get("asked") or self.plan.pattern
        cost = self.report.get("achieved", {})
        told = f"{cost.get('macs', 0):,} MACs, {cost.get('params', 0):,} parameters"
        return f"{type(self).__name__}({kind}: {asked}, {told})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same with a module of its own, whose history is known as that of this one is."""
        parts = {
            e.name: copy.deepcopy(getattr(self, e.name), memo)
            for e in fields(self)
            if e.name != "model"
        }
        found = type(self)(model=copy_module(self.model, memo), **parts)
        inherit(self.model, found.model)
        return found
