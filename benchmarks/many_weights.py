"""Many weights in one call against one call each, on trained networks.

    OMP_NUM_THREADS=1 python -m benchmarks.many_weights RESNET CIFAR10 LLAMA TEXT

RESNET is a checkpoint of akamaster/pytorch_resnet_cifar10 (ResNet-56), CIFAR10 a folder of parquet
files or a hub name, LLAMA a folder that transformers opens, TEXT a file to calibrate it on. Prints
CPU seconds of one thread, the median of alternating runs, and how far the errors are apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from metaprune.calibration import Calibration
from pruners.solvers import solve, solve_many
from pruners.statistics import input_statistics
from training import data as datasets
from training import sources

SOLVERS = ("magnitude", "wanda", "sparsegpt", "admm")
DENSITY = 0.3

Known = Mapping[str, Mapping[str, torch.Tensor]]


def resnet(checkpoint: str, cifar10: str) -> tuple[dict[str, torch.Tensor], Known]:
    """Every convolution of ResNet-56, and the statistics of 128 images."""
    data = datasets.load("cifar10", path=cifar10)
    options = {"depth": 56, "width": 16}
    model = sources.load("family", family="cifar_resnet", options=options, path=checkpoint).eval()
    images = Calibration.from_data(data, 128, 128).model_inputs
    weights = {n: p.detach() for n, p in model.named_parameters() if p.ndim == 4}
    return weights, input_statistics(model, images, weights)


def llama(folder: str, text: str) -> tuple[dict[str, torch.Tensor], Known]:
    """Every projection of attention and feed-forward layers, and the statistics of 16k tokens."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval().float()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = Path(text).read_text(encoding="utf-8")[:100_000]
    tokens = tokenizer(words, return_tensors="pt", verbose=False).input_ids[0, : 64 * 256]
    weights = {
        f"{name}.weight": module.weight.detach()
        for name, module in model.model.named_modules()
        if isinstance(module, nn.Linear)
    }
    batches = [{"input_ids": part} for part in tokens.reshape(64, 256).split(16)]
    known = input_statistics(model, batches, [f"model.{name}" for name in weights])
    return weights, {name.removeprefix("model."): value for name, value in known.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("resnet", "cifar10", "llama", "text"):
        parser.add_argument(name)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    table = Table("network", "weights", "solver", "alone, s", "together, s", "ratio", "difference")
    for network, (weights, known) in {
        "ResNet-56": resnet(given.resnet, given.cifar10),
        "Llama": llama(given.llama, given.text),
    }.items():
        for solver in SOLVERS:
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(given.repeats):
                started = time.process_time()
                alone = {
                    n: solve(solver, w, DENSITY, statistics=known[n]) for n, w in weights.items()
                }
                times[0].append(time.process_time() - started)
                started = time.process_time()
                many = solve_many(solver, weights, DENSITY, statistics=known)
                times[1].append(time.process_time() - started)
            apart = max(
                abs(many[n].statistics["error"] - alone[n].statistics["error"]) for n in weights
            )
            one, all_ = (statistics.median(found) for found in times)
            table.add_row(
                network, str(len(weights)), solver, f"{one:.3f}", f"{all_:.3f}",
                f"{all_ / one:.2f}", f"{apart:.1e}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
