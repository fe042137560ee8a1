"""What makes up for removed channels: nothing, biases, or a refit; one shot, without finetuning.

    python benchmarks/compensation.py CHECKPOINT CIFAR10 --network resnet56 --speedup 2

CHECKPOINT is one of akamaster/pytorch_resnet_cifar10, CIFAR10 a folder of parquet files or a hub
name. The plan is made once (budget "global", 512 calibration images of train); accuracy is that of
the first `--limit` test images. "second-order" keeps the widths of that plan and chooses the units
by `pruners.units.second_order_scores`, then refits.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from rich.console import Console

import metaprune
from graphs import trace
from metaprune.calibration import Calibration
from pruners import Plan, recovery, units
from training import data as datasets
from training import evaluate, sources


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("cifar10", nargs="?", default="uoft-cs/cifar10")
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--budget", default="global")
    parser.add_argument("--limit", type=int, default=2000)
    return parser.parse_args()


def main() -> None:
    """Print one line for each way."""
    given = arguments()
    console = Console()
    data = datasets.load("cifar10", path=given.cifar10)
    options = {"depth": int(given.network.removeprefix("resnet")), "width": 16}
    model = sources.load(
        "family", family="cifar_resnet", options=options, path=given.checkpoint
    ).eval()
    batches = Calibration.from_data(data, 512, 128).model_inputs
    example = data.example_inputs()
    plan = metaprune.plan(
        model, example, target={"speedup": given.speedup}, metanet=None, budget=given.budget,
        calibration=batches,
    )  # fmt: skip

    def tell(name: str, plan: Plan, methods: list[str]) -> None:
        started = time.process_time()
        result = metaprune.apply(model, example, plan, calibration=batches, recovery=methods)
        seconds = time.process_time() - started
        accuracy = evaluate(result.model, data, "test", limit=given.limit)["accuracy"]
        console.print(f"{name}: {accuracy:.2%}, {seconds:.0f} s", highlight=False)

    for methods in (["recalibrate"], ["bias", "recalibrate"], ["bias", "refit"]):
        tell(", ".join(methods), plan, methods)
    net = trace(model, example)
    scores = units.second_order_scores(net, recovery.input_moments(net, model, batches))
    kept = {
        axis: scores[axis].argsort(descending=True)[: len(index)].sort().values
        if axis in scores
        else index
        for axis, index in plan.keeps(net).items()
    }
    tell("second-order, refit", replace(plan, kept=Plan.keeping(net, kept)), ["bias", "refit"])


if __name__ == "__main__":
    main()
