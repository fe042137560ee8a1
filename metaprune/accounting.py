"""What a pruning cost and saved, counted on what was built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs import Network
from graphs.cost import count_macs, count_params
from metaprune.provenance import machine, versions
from pruners import Plan, fingerprint, measure
from pruners.plan import SHAPES


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
    for axis in net.axes.values():
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
    """What the pruned model costs, counted on itself; masks count zeros as saved parameters."""
    macs, params = count_macs(small), sum(p.numel() for p in pruned.parameters())
    stored = (*pruned.parameters(), *pruned.buffers())
    bytes_ = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    if plan.pattern not in SHAPES:
        zeros = {name: int((pruned.get_parameter(name) == 0).sum()) for name in plan.density}
        total = sum(net.tensors[name].value.numel() for name in plan.density)
        params, sparsity = params - sum(zeros.values()), sum(zeros.values()) / max(1, total)
    else:
        sparsity = 1 - params / max(1, count_params(net))
    return {
        "macs": macs,
        "params": params,
        "size_mb": bytes_ / 1e6,
        "speedup": count_macs(net) / macs if macs else 1.0,
        "sparsity": sparsity,
    }


def layers(net: Network, small: Network, pruned: nn.Module, plan: Plan) -> list[dict[str, Any]]:
    """The budget as it came out: units of every prunable axis, or weights under every mask."""
    if plan.pattern in SHAPES:
        return [
            {"name": axis.name, "of": axis.size, "kept": _kept(small, axis.name)}
            for axis in net.axes.values()
            if axis.frozen is None
        ]
    return [
        {
            "name": name,
            "of": net.tensors[name].value.numel(),
            "kept": int((pruned.get_parameter(name) != 0).sum()),
        }
        for name in plan.density
    ]


def _kept(small: Network, axis: str) -> int:
    """Units left of an axis; none where its block was dropped."""
    return small.axes[axis].size if axis in small.axes else 0
