"""A 70B Llama without weights, and time and memory against depth.

    python -m benchmarks.scale [--repeats 3] [--output scale.json]

Every figure comes from a fresh process with one thread. Seconds are processor time, the smallest of
`repeats`; memory is the peak of the whole process, and what of it came after the model was built.

    70B       a Llama of 80 layers, 8192 wide, 64 query and 8 KV heads, FFN 28672, 128256 tokens,
              on the meta device: trace, groups, and the plan of the uniform budget for half of the
              multiply-accumulates.
    depth     a Llama (512 wide; 8, 16, 32 layers) and a ResNet of bottleneck blocks (16, 32, 64)
              with weights: trace, plan (global L2, half of the multiply-accumulates), removal and
              the pruned module. Linear means that a step of depth costs the same at any depth.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.networks import Built, ResNet50, llama
from graphs.tools.files import write_text

DEPTHS = (1, 2, 4)
LARGE = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


def large() -> Built:
    """The shape of Llama-3-70B, without values."""
    with torch.device("meta"):
        model, inputs = llama(**LARGE)
    return model.eval(), inputs


def deep_llama(depth: int) -> Built:
    """8 layers times `depth`."""
    model, inputs = llama(num_hidden_layers=8 * depth)
    return model.eval(), inputs


def deep_resnet(depth: int) -> Built:
    """Four stages of bottleneck blocks, 16 blocks times `depth`, on small images."""
    return ResNet50(100, depth).eval(), (torch.randn(1, 3, 64, 64),)


MODELS: dict[str, Callable[[int], Built]] = {
    "Llama 70B, meta device": lambda depth: large(),
    "Llama 512 wide": deep_llama,
    "ResNet": deep_resnet,
}


def resident(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one model in this process."""
    import graphs.build.rebuild  # noqa: F401
    from graphs import trace
    from metaprune.job import Job
    from metaprune.planning import plan_job
    from metaprune.settings import Settings

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, inputs = MODELS[job["model"]](job["depth"])
    meta = next(model.parameters()).is_meta
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, wall = resident("VmRSS"), time.perf_counter()
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = step()
        seconds[name] = time.process_time() - started
        return result

    net = timed("trace", lambda: trace(model, inputs))
    groups = timed("groups", net.groups)
    settings = Settings(
        target={"macs": "50%"}, metanet=None, budget="uniform" if meta else "global"
    )
    plan = timed("plan", lambda: plan_job(Job(model, net, inputs), settings))
    if not meta:
        small = timed("remove", lambda: net.remove(plan.removals(net)))
        timed("to_model", small.to_model)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "groups": len(groups),
        "calls": len(net.program.graph.nodes),
        "seconds": seconds,
        "total": sum(seconds.values()),
        "wall": time.perf_counter() - wall,
        "peak_mb": resident("VmHWM"),
        "added_mb": resident("VmHWM") - before,
        "speedup": plan.achieved["speedup"],
    }


def fresh(job: dict[str, Any], repeats: int) -> dict[str, Any]:
    """The quickest of `repeats` fresh processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __spec__.name, "--worker", json.dumps(job)]
    found = []
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"{job} failed:\n{done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    best: dict[str, Any] = min(found, key=lambda figures: figures["total"])
    return {**job, **best}


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    steps = ("trace", "groups", "plan", "remove", "to_model")
    head = " | ".join(("model", "parameters", "calls", *steps, "total", "MB added", "MB in all"))
    lines = [f"| {head} |", "|---" + "|---:" * (len(steps) + 5) + "|"]
    for row in rows:
        times = [f"{row['seconds'][s]:.3f}" if s in row["seconds"] else "" for s in steps]
        name = row["model"] if row["depth"] == 1 else f"{row['model']}, {row['depth']}× as deep"
        cells = [name, f"{row['parameters']:,}", str(row["calls"]), *times]
        cells += [f"{row['total']:.2f}", f"{row['added_mb']:.0f}", f"{row['peak_mb']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("scale.json"))
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(worker(options.worker)))
        return
    load_before = os.getloadavg()[0]
    rows = []
    for name in MODELS:
        for depth in (1,) if "70B" in name else DEPTHS:
            rows.append(fresh({"model": name, "depth": depth}, options.repeats))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "threads": 1,
        "repeats": options.repeats,
        "load_before": load_before,
    }
    write_text(options.output, json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
