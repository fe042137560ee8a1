"""Time and memory of curvature, against the statistics of a forward pass.

    python -m benchmarks.curvature_cost [--batches 4] [--repeats 1] [--output curvature_cost.json]

Every figure comes from a fresh process with one thread: `hessian` is one forward pass with second
moments of all inputs, `curvature` a forward pass that chooses temperature and draws, and a forward
and a backward pass with second moments of all gradients at outputs, `recomputed` the same with
blocks computed again in the backward pass. Seconds are processor time, the smallest of `repeats`;
memory is what was added to the model at the peak, without the statistics that are the result, of a
process of its own that gives freed memory back at once.

    Llama        12 layers, 768 wide, FFN 2048, 32,000 tokens, head tied: 110M parameters with
                 random weights; batches of 4 × 512 tokens
    ResNet-50    random weights; batches of 16 images of 224 × 224
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
from torch import nn

from benchmarks.networks import ResNet50, llama
from benchmarks.scale import resident
from graphs.tools.files import write_text
from pruners.statistics import Likelihood, collect

SHAPE = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
}

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "Llama": (lambda: llama(**SHAPE)[0], lambda: torch.randint(0, 32000, (4, 512))),
    "ResNet-50": (ResNet50, lambda: torch.randn(16, 3, 224, 224)),
}

KINDS: dict[str, tuple[str, Likelihood | None]] = {
    "hessian": ("hessian", None),
    "curvature": ("curvature", Likelihood()),
    "recomputed": ("curvature", Likelihood(recompute=True)),
}


def worker(job: dict[str, Any]) -> dict[str, float]:
    """Measure one kind of statistics of one model in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    build, batch = MODELS[job["model"]]
    model = build().eval()
    batches = [batch() for _ in range(job["batches"])]
    need, likelihood = KINDS[job["kind"]]
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    collect(nn.Linear(2, 2), [torch.randn(2, 2)], ["weight"], [need])  # loads what is loaded late
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, started = resident("VmRSS"), time.process_time()
    found = collect(model, batches, names, [need], likelihood=likelihood)
    seconds = time.process_time() - started
    held = [part for moments in found.moments.values() for part in moments.parts.values()]
    mega = 1 / 2**20
    statistics = sum(part.numel() * part.element_size() for part in held) * mega
    return {
        "seconds": seconds,
        "model_mb": sum(p.numel() * p.element_size() for p in model.parameters()) * mega,
        "statistics_mb": statistics,
        "working_mb": resident("VmHWM") - before - statistics,
    }


def fresh(job: dict[str, Any], repeats: int) -> dict[str, Any]:
    """The quickest of `repeats` fresh processes, and the memory of another one."""
    command = [sys.executable, "-m", "benchmarks.curvature_cost", "--worker", json.dumps(job)]

    def once(**settings: str) -> dict[str, float]:
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment = os.environ | threads | settings
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"{job} failed:\n{done.stderr}")
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures

    seconds = min(once()["seconds"] for _ in range(repeats))
    return {**job, **once(MALLOC_MMAP_THRESHOLD_="1048576"), "seconds": seconds}


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown, times against the first row of each model."""
    lines = [
        "| model | statistics | seconds | × hessian | MB of the statistics | MB beside | × model |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    first: dict[str, float] = {}
    for row in rows:
        base = first.setdefault(row["model"], row["seconds"])
        lines.append(
            f"| {row['model']} | {row['kind']} | {row['seconds']:.1f} | {row['seconds'] / base:.2f}"
            f" | {row['statistics_mb']:.0f} | {row['working_mb']:.0f} | "
            f"{row['working_mb'] / row['model_mb']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("curvature_cost.json"))
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(worker(options.worker)))
        return
    load_before = os.getloadavg()[0]
    rows = []
    for name in options.models:
        for kind in KINDS:
            job = {"model": name, "kind": kind, "batches": options.batches}
            rows.append(fresh(job, options.repeats))
            print(table(rows).splitlines()[-1], file=sys.stderr, flush=True)
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
