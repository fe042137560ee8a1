"""`inspect`: trace a model and say what may be pruned, before any work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import networkx
import torch
from torch import nn

from graphs import Network, trace
from graphs.calls.diagnosis import described
from graphs.calls.refusals import unwrapped
from metaprune.inspection import flops
from metaprune.inspection.groups import floors, groups
from metaprune.inspection.layers import layers
from metaprune.inspection.reasons import left_alone
from metaprune.inspection.schema import Inspection, Module
from metaprune.inspection.words import MEANINGS
from pruners import Target, measure
from pruners.spared import SPARED

ASKED = {
    **dict.fromkeys(("macs", "params", "size_mb", "units"), "50%"),
    "sparsity": 0.5,
    "speedup": 2.0,
}


def inspect(
    model: nn.Module,
    example_inputs: Any,
    *,
    min_units: float | int = 0.05,
    latency: int = 0,
) -> Inspection:
    """Say what may be pruned, what is left alone and why, and what is reachable.

    Nothing is changed or trained. On the meta device no weight is needed:

        with torch.device("meta"):
            model, images = MyModel(), torch.empty(1, 3, 224, 224)
        print(metaprune.inspect(model, (images,)))

    Args:
        model: any module that `torch.export` accepts.
        example_inputs: tuple of arguments or dict of keywords for its forward.
        min_units: fewest units of an axis that stay, a share or a number, as in `prune`.
        latency: forward passes by which latency is measured; 0 measures none.

    Raises:
        TraceError: the model cannot be exported; the message has the line of its code and the
            remedy.
        ValueError: latency is asked of a model on the meta device.
    """
    start = time.perf_counter()
    model = unwrapped(model)
    net = trace(model, example_inputs)
    traced = time.perf_counter()
    check, by_torch = flops.check(net, model, example_inputs)
    checked = time.perf_counter()
    least = floors(net, min_units, SPARED)
    reachable = Target.parse(ASKED).reachable(net, least)
    seconds = {"trace": traced - start, "check": checked - traced}
    if latency:
        reachable["latency_ms"] = _latency(net, model, least, latency)
        seconds["latency"] = time.perf_counter() - checked
    found = groups(net)
    dense = measure(net)
    return Inspection(
        model=type(model).__name__,
        inputs=described(example_inputs),
        cost={name: dense[name] for name in ("macs", "params", "size_mb", "units")},
        reachable=reachable,
        min_units=min_units,
        groups=found,
        exactness={
            kind: {"groups": sum(g.exactness == kind for g in found), "meaning": meaning}
            for kind, meaning in MEANINGS.items()
            if any(g.exactness == kind for g in found)
        },
        left_alone=left_alone(net.axes.values()),
        modules=_modules(net, model, by_torch if check.torch_macs is not None else None),
        layers=layers(net),
        check=check,
        graph=_graph(net),
        notes=_notes(net, model),
        seconds={step: round(duration, 3) for step, duration in seconds.items()},
    )


def _modules(net: Network, model: nn.Module, by_torch: dict[str, int] | None) -> dict[str, Module]:
    macs = flops.macs_by_module(net)
    params: dict[str, int] = {}
    for name in net.source.parameters:
        path = name.rpartition(".")[0]
        params[path] = params.get(path, 0) + net.tensors[name].value.numel()
    order = {path: i for i, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    paths = sorted(
        {*macs, *params, *(by_torch or {})}, key=lambda path: order.get(path, len(order))
    )
    kinds = {path: type(m).__name__ for path, m in model.named_modules(remove_duplicate=False)}
    return {
        path: Module(
            kinds.get(path, ""),
            macs.get(path, 0),
            params.get(path, 0),
            None if by_torch is None else by_torch.get(path, 0),
        )
        for path in paths
        if macs.get(path) or params.get(path) or (by_torch or {}).get(path)
    }


def _latency(
    net: Network, model: nn.Module, least: dict[str, int], repeats: int
) -> tuple[float, float]:
    """Milliseconds of one forward pass, of the smallest network and of the dense one."""
    from training.fitting.latency import compare_latency

    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        raise ValueError("latency is measured on weights, and this model is on the meta device")
    gone = {
        name: range(fewest, net.axes[name].size)
        for name, fewest in least.items()
        if fewest < net.axes[name].size
    }
    small = net.remove({name: torch.tensor(list(units)) for name, units in gone.items()})
    args, kwargs = net.source.example
    assert not (args and kwargs)
    models = {"dense": model, "smallest": small.to_model()}
    measured = compare_latency(models, kwargs or args, repeats=repeats)
    low, high = sorted(1e3 * one.median for one in measured.values())
    return low, high


def _graph(net: Network) -> dict[str, Any]:
    """The layer-level graph as plain node-link data."""
    graph = net.to_networkx("layer")
    for _, data in graph.nodes(data=True):
        if "shape" in data:
            data["shape"] = "×".join(map(str, data["shape"]))
    return networkx.node_link_data(graph, edges="links")


def _notes(net: Network, model: nn.Module) -> tuple[str, ...]:
    notes = []
    hooked = [
        path or type(model).__name__
        for path, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    ]
    if hooked:
        notes.append(
            f"forward hooks on {_some(hooked)} are traced with the model: what they return counts, "
            "what else they do happens while tracing"
        )
    unused = [
        name
        for name in net.source.parameters
        if any(a.frozen == "the traced forward does not use it" for a in _along(net, name))
    ]
    if unused:
        notes.append(f"the forward does not use {_some(unused)}; they stay as they are")
    if any(a.kind in SPARED and a.frozen is None for a in net.axes.values()):
        notes.append("`prune` removes whole heads and leaves the features of a head as they are")
    tied = [alias for alias, name in net.source.aliases.items() if alias != name]
    if tied:
        notes.append(f"tied, and cut once: {_some(tied)}")
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        notes.append("traced on the meta device, without weights: `prune` needs them")
    return tuple(notes)


def _along(net: Network, name: str) -> list[Any]:
    from graphs.axes.dims import atoms

    return [net.axes[a] for dim in net.tensors[name].dims for a in atoms(dim)]


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def graph_of(found: Inspection) -> networkx.MultiDiGraph:
    """The layer-level graph of an inspection."""
    return networkx.node_link_graph(dict(found.graph), edges="links")


def write_graph(found: Inspection, path: Path) -> None:
    """The layer-level graph as GraphML, for networkx, Gephi and yEd."""
    networkx.write_graphml(graph_of(found), path)
