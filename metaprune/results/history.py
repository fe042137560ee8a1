"""What was done to a module before: so that pruning it again is a step of one chain.

Modules are looked up by identity and forgotten with their memory; nothing is written on them. A
copy made by hand has no history and counts as dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import nn

from metaprune.results.dense import Dense
from pruners import Plan


@dataclass(frozen=True)
class History:
    """How a module came about.

    Args:
        dense: the network it came from.
        plan: the chain that was carried out on it.
        masks: parameter name → bool; a weight outside its mask is 0.
    """

    dense: Dense
    plan: Plan
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)


_HISTORIES: WeakKeyDictionary[nn.Module, History] = WeakKeyDictionary()


def remember(model: nn.Module, history: History) -> None:
    """Note how a module came about; what was noted before is replaced."""
    _HISTORIES[model] = history


def history_of(model: nn.Module) -> History | None:
    """How a module came about; None for one that was never pruned here."""
    return _HISTORIES.get(model)
