"""Budgets × solvers on trained CIFAR-10 ResNets, one shot, without finetuning.

    python benchmarks/budgets.py CHECKPOINT CIFAR10 --network resnet56 --output budgets.jsonl
    python benchmarks/budgets.py --output budgets.jsonl --table

CHECKPOINT is one of akamaster/pytorch_resnet_cifar10, CIFAR10 a folder of parquet files or a hub
name. Calibration: 512 images of train. Masks: the budget is found once on magnitude masks, then
every solver prunes with it, and batch norms are recalibrated on the same images, unless layers were
pruned in order, which settles them. Channels: the product's own pipeline (`metaprune.plan` and
`apply`, with its refit in order) at a speed-up of 2. Accuracy on the first `--limit` test images.

Every budget and every cell is one line of the output, written when it is done: the same command
continues a run that was interrupted, and several runs may fill one file, cell by cell. Searches
keep their own journals beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import metaprune
from graphs import trace
from metaprune.calibration import Calibration
from pruners import budgets, recovery, solvers
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.statistics import input_statistics
from training import data as datasets
from training import evaluate, sources

BUDGETS: dict[str, tuple[str, dict[str, Any]]] = {
    # label: rule and its options
    "uniform": ("uniform", {}),
    "erk": ("erk", {}),
    "global": ("global", {}),
    "lamp": ("lamp", {}),
    "owl": ("owl", {}),
    "depth-linear": ("depth-linear", {}),
    "distortion": ("distortion", {"grid": [0.05, 0.1, 0.2, 0.35, 0.6, 1.0]}),
    "price 8": ("price", {"steps": 7}),
    "price 16": ("price", {"steps": 15}),
    "price 8, for its solver": ("price", {"steps": 7}),
    **{f"search 200, seed {s}": ("search", {"evaluations": 200, "seed": s}) for s in range(3)},
    "search 400": ("search", {"evaluations": 400}),
}
"""A price of n steps takes n + 1 backward passes: "price 16" takes 16."""

CHANNELS = {
    "uniform": "uniform",
    "global": "global",
    "flap": "flap",
    "depth-linear": "depth-linear",
    "price 16": {"rule": "price", "steps": 15},
    "search 128": {"rule": "search", "evaluations": 128},
    "bernoulli 128": {"rule": "bernoulli", "evaluations": 128},
}

IN_ORDER = ", in order"

RANKS = {
    "uniform": "uniform",
    "global": "global",
    "price 8": {"rule": "price", "steps": 7},
    "price 16": {"rule": "price", "steps": 15},
}

SHAPES = {"channels": CHANNELS, "low-rank": RANKS}
"""Pattern of smaller shapes → label → budget."""

SOLVERS: dict[str, tuple[str, int]] = {
    # label: solver and steps of the repair; in order, layers see the inputs of pruned ones
    "magnitude": ("magnitude", 0),
    "wanda": ("wanda", 0),
    "sparsegpt": ("sparsegpt", 0),
    "magnitude + repair": ("magnitude", 20),
    "sparsegpt + repair": ("sparsegpt", 20),
    "admm + repair": ("admm", 20),
    "magnitude, in order": ("magnitude", 20),
    "admm, in order": ("admm", 20),
}


class Store:
    """Results by key, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """Every whole line."""
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # cut off in writing

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last line that carries this key."""
        found = [line for line in self.read() if line["key"] == dict(key)]
        return found[-1] if found else None

    def add(self, key: Mapping[str, Any], **result: Any) -> dict[str, Any]:
        """Write one line."""
        line = {"key": dict(key), **result}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return line


class Bench:
    """A trained network with its calibration and test images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.store = Store(arguments.output)
        self.data = datasets.load("cifar10", path=arguments.cifar10)
        options = {"depth": int(arguments.network.removeprefix("resnet")), "width": 16}
        self.model = sources.load(
            "family", family="cifar_resnet", options=options, path=arguments.checkpoint
        ).eval()
        self.calibration = Calibration.from_data(self.data, 512, 128)
        self.batches = self.calibration.model_inputs
        self.net = trace(self.model, self.data.example_inputs())
        self.names = budgets.prunable_weights(self.net)
        self._evidence: dict[str, Any] = {}
        self._statistics: dict[str, Any] | None = None

    def accuracy(self, model: nn.Module) -> float:
        """Of the first test images, in per cent."""
        found = evaluate(model, self.data, "test", limit=self.arguments.limit)
        return round(100 * found["accuracy"], 2)

    def dense(self) -> None:
        """The network as it is."""
        key = {"network": self.arguments.network, "pattern": "dense"}
        if self.store.find(key) is None:
            self.tell(self.store.add(key, accuracy=self.accuracy(self.model)))

    def shares(self, label: str, sparsity: float, solver: str) -> dict[str, float]:
        """A budget, found or read; "for its solver" makes one for each."""
        key = {"network": self.arguments.network, "budget": label, "sparsity": sparsity}
        own = label.endswith("for its solver")
        if own:
            key["solver"] = solver
        line = self.store.find(key)
        if line is not None:
            return line["shares"]
        rule, options = BUDGETS[label]
        started = time.process_time()
        missing = [n for n in budgets.needs(rule) if n not in self._evidence]
        if missing:
            self._evidence |= budgets.measured(rule, self.net, self.batches, self.names)
        evidence = {n: self._evidence[n] for n in budgets.needs(rule)}
        if own:
            name, repair = SOLVERS[solver]
            evidence["solve"] = budgets.solving(
                self.net, self.batches, self.names, name, repair_steps=repair
            )
        if rule == "search":
            slug = f"{self.arguments.network}-{label}-{sparsity}".replace(" ", "").replace(",", "-")
            options = {**options, "journal": self.store.path.with_suffix(f".{slug}.jsonl")}
        if rule == "distortion":  # curves do not depend on the target
            options = {**options, "curves": self.curves(options["grid"])}
            evidence = {}
        shares = budgets.allocate_masks(rule, self.net, 1 - sparsity, **evidence, **options)
        seconds = round(time.process_time() - started, 1)
        self.store.add(key, shares=shares, cpu_seconds=seconds)
        return shares

    def curves(self, grid: list[float]) -> dict[str, list[float]]:
        """Distortion curves on the first 128 images, found or read."""
        key = {"network": self.arguments.network, "curves": grid}
        line = self.store.find(key)
        if line is None:
            evidence = budgets.measured("distortion", self.net, self.batches[:1], self.names)
            weights = {n: self.net.tensors[n].value for n in self.names}
            problem = budgets.MaskProblem(weights, 1.0, evidence["loss"])
            line = self.store.add(key, curves=budgets.measure_curves(problem, grid))
        return line["curves"]

    def masked(self, label: str, sparsity: float, solver: str) -> None:
        """One cell of the table of masks."""
        key = {
            "network": self.arguments.network, "pattern": "unstructured", "sparsity": sparsity,
            "budget": label, "solver": solver,
        }  # fmt: skip
        if self.store.find(key) is not None:
            return
        name, repair = SOLVERS[solver]
        shares = self.shares(label, sparsity, solver)
        values = (
            self.in_order(name, shares)
            if solver.endswith(IN_ORDER)
            else self.layerwise(name, repair, shares)
        )
        kept = sum(int((values[name] != 0).sum()) for name in shares)
        model = copy.deepcopy(self.model)
        model.load_state_dict({**model.state_dict(), **values})
        if not solver.endswith(IN_ORDER):
            recovery.recalibrate_batch_norm(model, self.batches)
        total = sum(values[name].numel() for name in shares)
        self.tell(
            self.store.add(key, accuracy=self.accuracy(model), achieved=round(1 - kept / total, 5))
        )

    def layerwise(
        self, name: str, repair: int, shares: Mapping[str, float]
    ) -> dict[str, torch.Tensor]:
        """Every weight for its own outputs on the inputs of the dense network."""
        needs = set(solvers.build(name).needs) | ({"hessian"} if repair else set())
        if needs and self._statistics is None:
            self._statistics = input_statistics(self.model, self.batches, self.names)
        values = {}
        for weight, share in shares.items():
            statistics = {k: self._statistics[weight][k] for k in needs} if needs else None
            value = self.net.tensors[weight].value
            values[weight] = solvers.solve(
                name, value, share, statistics=statistics, repair_steps=repair
            ).weight
        return values

    def in_order(self, name: str, shares: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Layer after layer, with the intercepts that norms take."""
        mask = solvers.MaskPattern.parse("unstructured")
        asks = {weight: Ask(share, mask) for weight, share in shares.items()}
        return solve_in_order(self.net, self.model, name, asks, self.batches).refit.values

    def shaped(self, pattern: str, label: str, speedup: float) -> None:
        """One cell of the table of channels, or of low rank."""
        key = {
            "network": self.arguments.network, "pattern": pattern, "speedup": speedup,
            "budget": label,
        }  # fmt: skip
        if self.store.find(key) is not None:
            return
        example = self.data.example_inputs()
        started = time.process_time()
        plan = metaprune.plan(
            self.model, example, target={"speedup": speedup}, metanet=None, pattern=pattern,
            budget=SHAPES[pattern][label], calibration=self.batches,
        )  # fmt: skip
        seconds = round(time.process_time() - started, 1)
        result = metaprune.apply(self.model, example, plan, calibration=self.batches)
        self.tell(
            self.store.add(
                key, accuracy=self.accuracy(result.model), cpu_seconds=seconds,
                achieved=round(result.report["achieved"]["speedup"], 3),
            )
        )  # fmt: skip

    def tell(self, line: Mapping[str, Any]) -> None:
        """One finished cell."""
        console.print(*line["key"].values(), line["accuracy"], highlight=False)


def table(store: Store) -> None:
    """Print every cell of the file."""
    lines = [line for line in store.read() if "accuracy" in line]
    for network in dict.fromkeys(line["key"]["network"] for line in lines):
        cells = [line for line in lines if line["key"]["network"] == network]
        dense = [line["accuracy"] for line in cells if line["key"]["pattern"] == "dense"]
        for solver in dict.fromkeys(c["key"]["solver"] for c in cells if "solver" in c["key"]):
            chosen = [c for c in cells if c["key"].get("solver") == solver]
            columns = sorted({c["key"]["sparsity"] for c in chosen})
            show(f"{network} (dense {dense}), {solver}, sparsity", chosen, "sparsity", columns)
        for pattern in SHAPES:
            chosen = [c for c in cells if c["key"]["pattern"] == pattern]
            columns = sorted({c["key"]["speedup"] for c in chosen})
            if chosen:
                show(f"{network} (dense {dense}), {pattern}, speed-up", chosen, "speedup", columns)


def show(title: str, cells: list[dict[str, Any]], by: str, columns: list[float]) -> None:
    """One table: budgets down, columns across."""
    grid = Table("budget", *map(str, columns), title=title)
    for label in dict.fromkeys(c["key"]["budget"] for c in cells):
        found = {c["key"][by]: c["accuracy"] for c in cells if c["key"]["budget"] == label}
        grid.add_row(label, *(f"{found[c]:.2f}" if c in found else "" for c in columns))
    console.print(grid)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("cifar10", nargs="?", default="uoft-cs/cifar10")
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--output", type=Path, default=Path("budgets.jsonl"))
    parser.add_argument("--sparsity", type=float, nargs="*", default=[0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--budgets", nargs="*", default=list(BUDGETS), choices=[*BUDGETS, "none"])
    parser.add_argument("--solvers", nargs="*", default=["magnitude"], choices=list(SOLVERS))
    parser.add_argument("--speedup", type=float, nargs="*", default=[])
    parser.add_argument("--channels", nargs="*", default=list(CHANNELS), choices=list(CHANNELS))
    parser.add_argument("--ranks", nargs="*", default=list(RANKS), choices=list(RANKS))
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    return parser.parse_args()


def main() -> None:
    """Fill the cells that are asked for and missing, then print the table."""
    given = arguments()
    if not given.table:
        bench = Bench(given)
        bench.dense()
        for label in (b for b in given.budgets if b != "none"):
            for solver in given.solvers:
                for sparsity in given.sparsity:
                    bench.masked(label, sparsity, solver)
        for pattern, labels in (("channels", given.channels), ("low-rank", given.ranks)):
            for label in labels:
                for speedup in given.speedup:
                    bench.shaped(pattern, label, speedup)
    table(Store(given.output))


console = Console()

if __name__ == "__main__":
    main()
