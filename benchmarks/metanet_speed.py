"""Time and memory of the metanetworks on the ResNet-56 for CIFAR-10.

    python benchmarks/metanet_speed.py [--output metanet_speed.json] [--threads N] [--repeats 2]

Every figure comes from a fresh process: the model is built with random weights and traced, the
metanetwork is built, then the process' peak of resident memory is reset and `repeats` forward
passes (without gradients), or forward and backward passes (of the sum of all squared outputs), are
timed one by one. Each metanetwork runs with one thread and with `threads` threads, and the faster
of the two counts: scatter kernels can be slower with more. Time: seconds of the fastest pass;
`first` is the first one, which also tabulates the network's structure. Memory: peak above what was
resident before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import metanet
from graphs import Network, trace
from graphs.tools.files import write_text
from training.networks.residual import ResNet

SAME = {"hidden": 64, "layers": 8}
PASSES = ("forward", "forward + backward")
RUNS: list[tuple[str, dict[str, Any], int]] = [
    # label, configuration, width factor of the ResNet-56
    ("pna 8 x 64", {"name": "pna", **SAME}, 1),
    ("streaming 8 x 64", {"name": "streaming", **SAME}, 1),
    ("streaming, default", {"name": "streaming"}, 1),
    ("streaming 8 x 64", {"name": "streaming", **SAME}, 4),
    ("streaming, default", {"name": "streaming"}, 4),
]


def network(factor: int) -> Network:
    """The ResNet-56 of akamaster/pytorch_resnet_cifar10 (option A), its widths times `factor`."""
    torch.manual_seed(0)
    model = ResNet(blocks=(9, 9, 9), widths=[factor * w for w in (16, 32, 64)]).eval()
    return trace(model, (torch.randn(2, 3, 32, 32),))


def one_pass(meta: torch.nn.Module, net: Network, backward: bool) -> None:
    """Forward without gradients, or forward and backward."""
    with torch.set_grad_enabled(backward):
        out = meta(net, None, 0.5)
        if backward:
            groups = (out.values, out.unit_logits, out.axis_logits, out.tensor_logits)
            loss = sum(t.square().sum() for group in groups for t in group.values())
            assert isinstance(loss, torch.Tensor)
            loss.backward()


def resident(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def worker(job: dict[str, Any]) -> dict[str, float]:
    """Measure one configuration in this process."""
    torch.set_num_threads(job["threads"])
    net = network(job["factor"])
    meta = metanet.build(job["config"])
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    walls, processors = [], []
    for _ in range(job["repeats"]):
        wall, processor = time.perf_counter(), time.process_time()
        one_pass(meta, net, job["backward"])
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return {
        "seconds": min(walls),
        "processor_seconds": min(processors),
        "first_seconds": walls[0],
        "peak_mb": resident("VmHWM") - before,
        "parameters": sum(p.numel() for p in meta.parameters()),
        "weights": sum(t.value.numel() for t in net.tensors.values()),
    }


def fresh(job: dict[str, Any]) -> dict[str, float]:
    """`worker(job)` in a fresh process."""
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures | {"threads": job["threads"]}


def measure(threads: int, repeats: int) -> list[dict[str, Any]]:
    """All rows of the table, each figure from a fresh process."""
    rows = []
    for label, config, factor in RUNS:
        row: dict[str, Any] = {"metanetwork": label, "config": config, "width": factor}
        for kind in PASSES:
            job = {
                "config": config,
                "factor": factor,
                "backward": kind == "forward + backward",
                "repeats": repeats,
            }
            tried = [fresh(job | {"threads": n}) for n in sorted({1, threads})]
            row[kind] = min(tried, key=lambda figures: figures["seconds"])
            row[f"{kind}, all"] = tried
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows, with ratios to the PNA row where the network is the same."""
    table = Table(title="Metanetworks on ResNet-56 (CIFAR-10)")
    for name in (
        "metanetwork",
        "weights",
        "pass",
        "threads",
        "seconds",
        "first",
        "MB",
        "vs pna",
    ):
        table.add_column(name, justify="left" if name in ("metanetwork", "pass") else "right")
    peer = rows[0]
    for row in rows:
        for kind in PASSES:
            got, base = row[kind], peer[kind]
            ratio = (
                f"{base['seconds'] / got['seconds']:.1f}x faster, "
                f"{base['peak_mb'] / got['peak_mb']:.1f}x less memory"
                if row["width"] == peer["width"]
                else ""
            )
            table.add_row(
                row["metanetwork"],
                f"{got['weights']:,}",
                kind,
                str(got["threads"]),
                f"{got['seconds']:.3f}",
                f"{got['first_seconds']:.3f}",
                f"{got['peak_mb']:.0f}",
                ratio,
            )
    Console(width=140).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("metanet_speed.json"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(worker(options.worker)))
        return
    load = os.getloadavg()[0]
    rows = measure(options.threads, options.repeats)
    show(rows)
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": options.threads,
        "repeats": options.repeats,
        "load_before": load,
    }
    write_text(options.output, json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
