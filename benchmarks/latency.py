"""Measured latency beside the count of multiply-accumulates, for channels and for low rank.

    OMP_NUM_THREADS=1 python -m benchmarks.latency [--networks ResNet-50 ...] [--speedup 2]

Networks of random weights are pruned uniformly and timed in turns, one example at a time.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console

import metaprune
from benchmarks.networks import NETWORKS, build
from training import compare_latency

PATTERNS = ("low-rank", "channels")


def main() -> None:
    """Prune, time, print how many times faster than the dense network each is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    chosen = ["Llama 512x8", "ResNet-50", "ResNet-56"]
    parser.add_argument("--networks", nargs="*", default=chosen, choices=list(NETWORKS))
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    for name in given.networks:
        model, inputs = build(name)
        models = {"dense": model.eval()}
        for pattern in PATTERNS:
            target = {"speedup": given.speedup}
            models[pattern] = metaprune.prune(
                model, inputs, target=target, pattern=pattern, budget="uniform", metanet=None
            ).model.eval()
        found = compare_latency(models, inputs, repeats=given.repeats)
        faster = {p: found["dense"].median / found[p].median for p in PATTERNS}
        console.print(name, *(f"{p} {f:.2f}×" for p, f in faster.items()), highlight=False)


if __name__ == "__main__":
    main()
