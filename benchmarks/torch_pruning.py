"""Time and memory of graph, plan and removal, beside Torch-Pruning in the same run.

    pip install torch-pruning==1.6.1
    python -m benchmarks.torch_pruning [--networks ResNet-56 ...] [--repeats 5] [--output FILE]

Every figure comes from a fresh process with one thread: the network is built with random weights,
the process' peak of resident memory is reset, and one run from the dense module to the pruned
module is measured, with everything that a first run has to load. Seconds are medians of the
processor time and of the wall time of `repeats` such processes, which alternate between the two
libraries; `again` is the processor time of a second run in the same process. Memory is the peak
above what was resident before, the smallest of all repeats.

What is measured:
    metaprune           trace, plan(global L2 to 50 % of the channels, or of what `target` says),
                        remove, to_model. The pruned module's forward has run, call by call as the
                        traced program.
    metaprune in place  The same into the dense module, as Torch-Pruning does it.
    Torch-Pruning       BasePruner (dependency graph) with global group L2 importance and a pruning
                        ratio of 50 % of the channels, step. It counts and runs nothing. Its
                        MagnitudePruner, MetaPruner and GroupNormPruner take as long or longer.

Afterwards the indices that Torch-Pruning removed are removed by metaprune as well, where its
history names one axis for each of its groups, and the outputs of both are compared.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.networks import NETWORKS, Built, build
from graphs.tools.files import write_text

LIBRARIES = ("metaprune", "metaprune in place", "torch-pruning")
COMPARED = ("ResNet-56", "VGG-19 CIFAR", "ResNet-50")
"""Networks where every group of Torch-Pruning is one axis."""


def ours(
    model: nn.Module, inputs: tuple[Any, ...], inplace: bool = False, target: str = "units=50%"
) -> nn.Module:
    """The pruned module of metaprune: another one, or `model` itself."""
    from graphs import trace
    from metaprune.job import Job
    from metaprune.planning import plan_job
    from metaprune.settings import Settings

    net = trace(model, inputs)
    settings = Settings(target=dict([target.split("=")]), metanet=None, budget="global")
    plan = plan_job(Job(model, net, inputs), settings)
    small = net.remove(plan.removals(net))
    del net  # It holds the dense weights.
    return small.to_model(into=model if inplace else None)


def theirs(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[nn.Module, Any]:
    """The module pruned in place by Torch-Pruning, and its pruner."""
    import torch_pruning

    heads = {}
    for module in model.modules():
        # What its examples for transformers do by hand for every architecture.
        if hasattr(module, "q_proj") and hasattr(module, "head_dim"):
            for name in ("q_proj", "k_proj", "v_proj"):
                layer = getattr(module, name)
                heads[layer] = layer.out_features // module.head_dim
        if hasattr(module, "query") and hasattr(module, "num_attention_heads"):
            for name in ("query", "key", "value"):
                heads[getattr(module, name)] = module.num_attention_heads
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs[0],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.5,
        ignored_layers=[last],
        num_heads=heads,
        prune_num_heads=bool(heads),
        prune_head_dims=not heads,
        head_pruning_ratio=0.5 if heads else 0.0,
    )
    pruner.step()
    return model, pruner


def load(library: str) -> None:
    """Import what a run uses, so that only first calls are left to load."""
    mine = (
        "graphs.build.inplace",
        "graphs.build.rebuild",
        "metaprune.planning",
        "metaprune.advice",
    )
    for name in ("torch_pruning",) if library == "torch-pruning" else mine:
        importlib.import_module(name)


def run(library: str, built: Built, target: str) -> nn.Module:
    """One run of a library on a network that it may change."""
    if library == "torch-pruning":
        return theirs(*built)[0]
    return ours(*built, inplace=library != "metaprune", target=target)


def resident(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def worker(job: dict[str, Any]) -> dict[str, float]:
    """Measure one library on one network in this process."""
    torch.set_num_threads(1)
    load(job["library"])
    found: dict[str, float] = {}
    for which in ("", "again_"):
        built = build(job["network"])
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident("VmRSS")
        wall, processor = time.perf_counter(), time.process_time()
        pruned = run(job["library"], built, job["target"])
        found[f"{which}wall"] = time.perf_counter() - wall
        found[f"{which}seconds"] = time.process_time() - processor
        found[f"{which}peak_mb"] = resident("VmHWM") - before
        found["parameters"] = sum(p.numel() for p in pruned.parameters())
        del pruned, built
    return found


def alternating(networks: list[str], repeats: int, target: str) -> None:
    """Print processor seconds of runs that take turns in this process: medians of `repeats`."""
    torch.set_num_threads(1)
    for library in LIBRARIES:
        load(library)
    for network in networks:
        found: dict[str, list[float]] = {library: [] for library in LIBRARIES}
        for _ in range(repeats):
            for library in LIBRARIES:
                built = build(network)
                started = time.process_time()
                run(library, built, target)
                found[library].append(time.process_time() - started)
        cells = [f"{statistics.median(seconds):.3f}" for seconds in found.values()]
        print(f"| {network} | {' | '.join(cells)} |", flush=True)


def fresh(job: dict[str, Any]) -> dict[str, float] | str:
    """`worker(job)` in a fresh process; what went wrong, in one line, where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __spec__.name, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(networks: list[str], repeats: int, target: str) -> list[dict[str, Any]]:
    """One row for each network: the figures of both libraries."""
    rows = []
    for network in networks:
        runs: dict[str, list[Any]] = {library: [] for library in LIBRARIES}
        for _ in range(repeats):
            for library in LIBRARIES:
                job = {"library": library, "network": network, "target": target}
                runs[library].append(fresh(job))
        row: dict[str, Any] = {"network": network}
        for library, found in runs.items():
            failed = [f for f in found if isinstance(f, str)]
            if failed:
                row[library] = {"failed": failed[0]}
                continue
            row[library] = {
                key: (min if "peak" in key else statistics.median)([f[key] for f in found])
                for key in found[0]
            }
        rows.append(row)
        print(line(row), file=sys.stderr, flush=True)
    return rows


def compare(network: str) -> dict[str, Any]:
    """Outputs of both libraries after the removal of the same units."""
    from graphs import trace
    from graphs.axes.dims import Atom

    model, inputs = build(network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh statistics would hide a wrong slice
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    net = trace(model, inputs)
    peer, pruner = theirs(copy.deepcopy(model), inputs)
    removed: dict[str, list[int]] = {}
    for layer, is_output, indices in pruner.pruning_history():
        dim = net.tensors[f"{layer}.weight"].dims[0 if is_output else 1]
        if not isinstance(dim, Atom):
            raise ValueError(f"{network}: {layer} runs along {dim}, more than one axis")
        removed[dim.axis] = list(indices)
    small = net.remove(removed).to_model()
    with torch.no_grad():
        expected, got = peer.eval()(*inputs), small.eval()(*inputs)
    return {
        "network": network,
        "axes": len(removed),
        "units": sum(map(len, removed.values())),
        "parameters": [sum(p.numel() for p in m.parameters()) for m in (peer, small)],
        "largest_output": float(expected.abs().max()),
        "largest_difference": float((got - expected).abs().max()),
        "identical": bool(torch.equal(got, expected)),
    }


def line(row: dict[str, Any]) -> str:
    """One row of the table; ratios are of Torch-Pruning to metaprune in place."""
    found = [row[library] for library in LIBRARIES]
    if any("failed" in figures for figures in found):
        return f"| {row['network']} | {' | '.join(f.get('failed', 'ok') for f in found)} |"
    cells = [row["network"]]
    for key, digits in (("seconds", 3), ("again_seconds", 3), ("wall", 3), ("peak_mb", 0)):
        ratio = found[2][key] / max(found[1][key], 1e-9)
        cells += [f"{figures[key]:.{digits}f}" for figures in found] + [f"{ratio:.2f}×"]
    return f"| {' | '.join(cells)} |"


def table(rows: list[dict[str, Any]], checks: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    names = ("seconds", "again", "wall", "MB")
    head = " | ".join(f"{name}, metaprune | in place | Torch-Pruning | ratio" for name in names)
    lines = [f"| network | {head} |", "|---" + "|---:" * 16 + "|", *map(line, rows), ""]
    for check in checks:
        same = "identical" if check["identical"] else "differ"
        lines.append(
            f"- {check['network']}: the {check['units']:,} units on {check['axes']} axes that "
            f"Torch-Pruning removed, removed by metaprune: outputs {same} (largest difference "
            f"{check['largest_difference']:.1e} of {check['largest_output']:.2g})."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("torch_pruning.json"))
    parser.add_argument("--target", default="units=50%", help="of metaprune: metric=amount")
    parser.add_argument("--alternating", action="store_true", help="seconds only, in one process")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(worker(options.worker)))
        return
    if options.alternating:
        alternating(options.networks, options.repeats, options.target)
        return
    load_before = os.getloadavg()[0]
    rows = measure(options.networks, options.repeats, options.target)
    checks = [compare(network) for network in COMPARED if network in options.networks]
    print(table(rows, checks))
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "threads": 1,
        "repeats": options.repeats,
        "target": options.target,
        "load_before": load_before,
    }
    content = {"machine": machine, "rows": rows, "checks": checks}
    write_text(options.output, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
