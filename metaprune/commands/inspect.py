"""`metaprune inspect`: what may be pruned, what is left alone and why, what is reachable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from graphs import Network, trace
from graphs.cost import count_macs, macs_per_node
from metaprune import door
from metaprune.report import words
from pruners import Target, measure


@dataclass(frozen=True)
class InspectConfig:
    """Settings of `conf/inspect.yaml`, which says what each means."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    json: bool


def run(config: DictConfig) -> None:
    """Trace and print; no weights are changed and nothing is trained."""
    settings, _ = door.typed(InspectConfig, config)
    data, model = door.load_data(settings.data), door.load_model(settings.model)
    found = findings(trace(model, data.example_inputs()))
    console = Console()
    if settings.json:
        console.out(json.dumps(found, indent=2, ensure_ascii=False), highlight=False)
    else:
        _show(found, console)


def findings(net: Network) -> dict[str, Any]:
    """What can be said about pruning a network, as plain JSON values.

    Returns:
        `cost` (dense), `reachable` (metric → [lowest, highest] with one unit of every axis, MACs
        and parameters also as shares), `groups`, `left_alone` (axis → reason) and `modules`
        (path → MACs and parameters).
    """
    cost = measure(net)
    target = Target.parse({"macs": "50%", "params": "50%", "size_mb": "50%", "speedup": 2.0})
    groups = [
        {
            "axis": group.axis.name,
            "units": group.axis.size,
            "kind": group.axis.kind,
            "exactness": group.axis.exactness,
            "tensors": [f"{name}[{i}]" for name, i in group.tensors],
        }
        for group in net.groups()
        if group.axis.frozen is None
    ]
    params: dict[str, int] = {}
    for name in net.source.parameters:
        path = name.rpartition(".")[0]
        params[path] = params.get(path, 0) + net.tensors[name].value.numel()
    macs = macs_per_node(net)
    modules = {
        path: {"macs": macs.get(path, 0), "params": params.get(path, 0)}
        for path in dict.fromkeys([*params, *macs])
    }
    return {
        "cost": {name: cost[name] for name in ("macs", "params", "size_mb")},
        "reachable": {name: list(ends) for name, ends in target.reachable(net).items()},
        "groups": groups,
        "left_alone": {axis.name: axis.frozen for axis in net.axes.values() if axis.frozen},
        "modules": modules,
        "macs_total": count_macs(net),
    }


def _show(found: Mapping[str, Any], console: Console) -> None:
    groups = Table("group", "units", "exactness", "cut together", title="May be pruned")
    groups.columns[0].overflow = "fold"
    for group in found["groups"]:
        first, *others = group["tensors"] or ["nothing"]
        shown = first + (f" and {len(others)} more" if others else "")
        units = f"{group['units']} × {group['kind']}"
        groups.add_row(group["axis"], units, group["exactness"], shown)
    console.print(groups)
    if found["left_alone"]:
        alone = Table("axis", "reason", title="Left alone")
        for name, reason in found["left_alone"].items():
            alone.add_row(name, reason)
        console.print(alone)
    modules = Table("module", "MACs", "parameters", title="Where the cost is")
    for path, cost in found["modules"].items():
        modules.add_row(path or "(top)", words.count(cost["macs"]), words.count(cost["params"]))
    console.print(modules)
    reach = Table("target", "from", "to", title="Reachable")
    for name, (low, high) in found["reachable"].items():
        reach.add_row(name, f"{low:,.4g}", f"{high:,.4g}")
    console.print(reach)
