"""What was done to a module before: so that pruning it again is a step of one chain.

Modules are looked up by identity and forgotten with their memory; nothing is written on them. A
copy made by hand has no history and counts as dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
        shapes: parameter name → shape, of the module as it came out; filled in by `remember`.
    """

    dense: Dense
    plan: Plan
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    shapes: Mapping[str, torch.Size] = field(default_factory=dict)


_HISTORIES: WeakKeyDictionary[nn.Module, History] = WeakKeyDictionary()


def remember(model: nn.Module, history: History) -> None:
    """Note how a module came about; what was noted before is replaced."""
    _HISTORIES[model] = replace(history, shapes=_shapes(model))


def inherit(model: nn.Module, copied: nn.Module) -> None:
    """Note of a copy what is noted of its original."""
    if model in _HISTORIES:
        _HISTORIES[copied] = _HISTORIES[model]


def history_of(model: nn.Module) -> History | None:
    """How a module came about; None for one that was never pruned here.

    Raises:
        ValueError: its layers were changed by hand since, so that no plan leads to it.
    """
    history = _HISTORIES.get(model)
    if history is None:
        return None
    now, then = _shapes(model), history.shapes
    changed = [name for name in (*then, *now) if now.get(name) != then.get(name)]
    if changed:
        raise ValueError(
            f'the module was changed by hand since it was pruned ("{changed[0]}" is not what it '
            "was), so no plan leads from the dense network to it; prune a copy, "
            "copy.deepcopy(model), which counts as dense"
        )
    return history


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}
