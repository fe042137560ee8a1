"""What a pruning cost and saved, counted on what was built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphs import Network
from graphs.cost import count_macs
from metaprune.results.dense import Dense
from metaprune.results.provenance import machine, versions
from pruners import Plan
from pruners.targets import count_units

Masks = Mapping[str, torch.Tensor]


def summary(
    dense: Dense,
    net: Network,
    small: Network,
    pruned: nn.Module,
    plan: Plan,
    masks: Masks,
) -> dict[str, Any]:
    """The report of a pruning, as plain JSON values; costs are those of what was built.

    Args:
        dense: the network that the chain of prunings began with.
        net: the network that the last of them started from.
        small: the pruned network.
        pruned: its module, finetuned or not.
        plan: the chain.
        masks: parameter name → bool, over the module.
    """
    classes: dict[str, list[str]] = {}
    for name in plan.kept:
        axis = net.axes[name]
        classes.setdefault(axis.exactness, []).append(name)
    found = {
        "asked": dict(plan.asked),
        "dense": dict(dense.costs),
        "achieved": achieved(dense, small, pruned, plan, masks),
        "pattern": plan.pattern,
        "budget": plan.budget,
        "layers": layers(dense, small, pruned, plan, masks),
        "exactness": classes,
        "left_alone": dict(dense.left_alone),
        "model": type(pruned).__name__,
        "settings": plan.provenance.get("settings", {}),
        "provenance": {
            "versions": versions(),
            "machine": machine(),
            "fingerprints": dict(dense.fingerprints),
        },
    }
    if plan.before is not None:
        found["steps"] = [
            {"pattern": step.pattern, "budget": step.budget, "asked": dict(step.asked)}
            for step in plan.steps
        ]
    return found


def achieved(
    dense: Dense, small: Network, pruned: nn.Module, plan: Plan, masks: Masks
) -> dict[str, float]:
    """What the pruned model costs, counted on itself; zeros under masks count as saved.

    Sparsity is that of the weights which masks and factors were meant for, where nothing else was
    pruned, and otherwise the share of all parameters that is gone.
    """
    macs = count_macs(small)
    params = sum(p.numel() for p in pruned.parameters()) - sum(_zeros(pruned, n) for n in masks)
    stored = (*pruned.parameters(), *pruned.buffers())
    bytes_ = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    names = _changed(plan)
    if not names or _mixed(plan, dense):
        sparsity = 1 - params / max(1, dense.costs["params"])
    else:
        total = sum(dense.weights[name] for name in names)
        sparsity = 1 - sum(_left(pruned, name, masks) for name in names) / max(1, total)
    return {
        "macs": macs,
        "params": params,
        "size_mb": bytes_ / 1e6,
        "units": count_units(small),
        "speedup": dense.costs["macs"] / macs if macs else 1.0,
        "sparsity": sparsity,
    }


def layers(
    dense: Dense, small: Network, pruned: nn.Module, plan: Plan, masks: Masks
) -> list[dict[str, Any]]:
    """The budget as it came out: units of every prunable axis, or numbers left of every weight.

    Of weights where any were masked or factored; all that lost something where axes were cut too.
    """
    names = _changed(plan)
    if not names:
        return [
            {"name": name, "of": size, "kept": small.axes[name].size if name in small.axes else 0}
            for name, size in dense.axes.items()
        ]
    mixed = _mixed(plan, dense)
    if mixed:
        names = list(dense.weights)
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "of": dense.weights[name],
            "kept": _left(pruned, name, masks),
            "form": _form(plan, name),
        }
        for name in names
    ]
    return [x for x in found if x["kept"] < x["of"]] if mixed else found


def _mixed(plan: Plan, dense: Dense) -> bool:
    """Whether a chain does more than to give dense weights masks and factors."""
    cuts = any(step.kept or step.dropped for step in plan.steps)
    return cuts or not dense.weights.keys() >= set(_changed(plan))


def _changed(plan: Plan) -> list[str]:
    """Weights that any step of a chain gives a mask or factors."""
    return list(dict.fromkeys(n for step in plan.steps for n in (*step.rank, *step.density)))


def _form(plan: Plan, name: str) -> str:
    """What a chain gave a weight; empty for nothing."""
    given = {
        "mask": any(name in step.density for step in plan.steps),
        "factors": any(name in step.rank for step in plan.steps),
    }
    return " and ".join(kind for kind, there in given.items() if there)


def _left(pruned: nn.Module, name: str, masks: Masks) -> int:
    """Numbers left of a dense weight: those of it and its factors, without zeros under masks."""
    parts = _parts(pruned, name)
    zeros = sum(_zeros(pruned, part) for part in parts if part in masks)
    return sum(parameter.numel() for parameter in parts.values()) - zeros


def _zeros(pruned: nn.Module, name: str) -> int:
    """Zeros in a parameter."""
    return int((pruned.get_parameter(name) == 0).sum())


def _parts(pruned: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """A dense weight, or what took its place, by name; nothing where its block was dropped."""
    path, _, leaf = name.rpartition(".")
    try:
        layer = pruned.get_submodule(path)
    except AttributeError:
        return {}
    if hasattr(layer, leaf):
        return {name: pruned.get_parameter(name)}
    return {
        f"{path}.{key}": parameter
        for key, parameter in layer.named_parameters()
        if not key.endswith("bias")
    }
