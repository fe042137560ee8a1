"""What a pruning cost and saved, counted on what was built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs import Network
from graphs.cost import count_macs, count_params
from metaprune.results.provenance import machine, versions
from pruners import Plan, fingerprint, measure
from pruners.plan import SHAPES
from pruners.targets import count_units


def summary(
    net: Network,
    small: Network,
    pruned: nn.Module,
    plan: Plan,
    notes: list[str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The report of one pruning, as plain JSON values; costs are those of what was built.

    Args:
        net: the dense network.
        small: the pruned network.
        pruned: its module, finetuned or not.
        plan: what was asked.
        notes: sentences about what was done.
        seconds: step → duration.
    """
    dense = measure(net)
    classes: dict[str, list[str]] = {}
    for axis in net.axes.values() if plan.pattern in SHAPES else ():
        if axis.frozen is None and _kept(small, axis.name) < axis.size:
            classes.setdefault(axis.exactness, []).append(axis.name)
    return {
        "asked": dict(plan.asked),
        "dense": dense,
        "achieved": achieved(net, small, pruned, plan),
        "pattern": plan.pattern,
        "budget": plan.budget,
        "layers": layers(net, small, pruned, plan),
        "exactness": classes,
        "left_alone": {axis.name: axis.frozen for axis in net.axes.values() if axis.frozen},
        "model": type(pruned).__name__,
        "notes": list(notes),
        "seconds": dict(seconds),
        "provenance": {
            "versions": versions(),
            "machine": machine(),
            "fingerprints": fingerprint(net),
        },
    }


def achieved(net: Network, small: Network, pruned: nn.Module, plan: Plan) -> dict[str, float]:
    """What the pruned model costs, counted on itself; zeros under masks count as saved."""
    macs, params = count_macs(small), sum(p.numel() for p in pruned.parameters())
    stored = (*pruned.parameters(), *pruned.buffers())
    bytes_ = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    if plan.pattern not in SHAPES:
        left = {name: _left(pruned, plan, name) for name in (*plan.density, *plan.rank)}
        params -= sum(_zeros(pruned, plan, name) for name in left)
        total = sum(net.tensors[name].value.numel() for name in left)
        sparsity = 1 - sum(left.values()) / max(1, total)
    else:
        sparsity = 1 - params / max(1, count_params(net))
    return {
        "macs": macs,
        "params": params,
        "size_mb": bytes_ / 1e6,
        "units": count_units(small),
        "speedup": count_macs(net) / macs if macs else 1.0,
        "sparsity": sparsity,
    }


def layers(net: Network, small: Network, pruned: nn.Module, plan: Plan) -> list[dict[str, Any]]:
    """The budget as it came out: units of every prunable axis, or numbers left of every weight."""
    if plan.pattern in SHAPES:
        return [
            {"name": axis.name, "of": axis.size, "kept": _kept(small, axis.name)}
            for axis in net.axes.values()
            if axis.frozen is None
        ]
    return [
        {"name": name, "of": net.tensors[name].value.numel(), "kept": _left(pruned, plan, name)}
        for name in dict.fromkeys((*plan.density, *plan.rank))
    ]


def _left(pruned: nn.Module, plan: Plan, name: str) -> int:
    """Numbers that are left of a weight: those under its mask that are not 0, and its factors'."""
    return sum(p.numel() for p in _weights(pruned, name)) - _zeros(pruned, plan, name)


def _zeros(pruned: nn.Module, plan: Plan, name: str) -> int:
    """Zeros under the mask of a weight."""
    return int((_weights(pruned, name)[0] == 0).sum()) if name in plan.density else 0


def _weights(pruned: nn.Module, name: str) -> list[nn.Parameter]:
    """A weight, or what took its place: the sparse part first, then the factors."""
    path, _, leaf = name.rpartition(".")
    layer = pruned.get_submodule(path)
    if hasattr(layer, leaf):
        return [pruned.get_parameter(name)]
    return [p for key, p in layer.named_parameters() if not key.endswith("bias")]


def _kept(small: Network, axis: str) -> int:
    """Units left of an axis; none where its block was dropped."""
    return small.axes[axis].size if axis in small.axes else 0
