"""Remarks: what a person should know of a model before it is pruned."""

from __future__ import annotations

from torch import nn

from graphs import Axis, Network
from graphs.axes.dims import atoms
from pruners.targets import SPARED


def notes(net: Network, model: nn.Module) -> tuple[str, ...]:
    """Sentences about hooks, unused and tied parameters, spared units and missing weights."""
    found = []
    hooked = [
        path or type(model).__name__
        for path, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    ]
    if hooked:
        found.append(
            f"forward hooks on {_some(hooked)} are traced with the model: what they return counts, "
            "what else they do happens while tracing"
        )
    unused = [
        name
        for name in net.source.parameters
        if any(a.frozen == "the traced forward does not use it" for a in _along(net, name))
    ]
    if unused:
        found.append(f"the forward does not use {_some(unused)}; they stay as they are")
    if any(a.kind in SPARED and a.frozen is None for a in net.axes.values()):
        found.append("`prune` removes whole heads and leaves the features of a head as they are")
    tied = [alias for alias, name in net.source.aliases.items() if alias != name]
    if tied:
        found.append(f"tied, and cut once: {_some(tied)}")
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        found.append("traced on the meta device, without weights: `prune` needs them")
    return tuple(found)


def _along(net: Network, name: str) -> list[Axis]:
    return [net.axes[a] for dim in net.tensors[name].dims for a in atoms(dim)]


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
