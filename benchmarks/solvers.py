"""Solvers on the reference problems, against straightforward implementations of the published ones.

    OMP_NUM_THREADS=1 python -m benchmarks.solvers [--output solvers.json] [--docs docs/solvers.md]

Weights of three shapes, with Gaussian entries or a decaying spectrum; inputs from a factor model
with power-law strengths (rank in/4) plus 0.3 noise, log-normal channel scales, and 1 % outlier
channels eight times as strong; 4096 tokens to calibrate and 4096 fresh ones to validate. Errors are
‖(W − W')X‖² / ‖WX‖². Time is CPU seconds of one thread, from weight and Hessian to pruned weight:
the fastest of `--repeats` runs, the slow originals once.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import reference
from pruners.solvers import relative_error, solve

TOKENS = 4096
SHAPES = [(1024, 1024), (2048, 1024), (1024, 2048)]
KINDS = ["gaussian", "decaying"]
CASES: dict[str, tuple[str, float]] = {
    # label: pattern and sparsity
    "50 %": ("unstructured", 0.5),
    "70 %": ("unstructured", 0.7),
    "2:4": ("2:4", 0.5),
}


@dataclass(frozen=True)
class Problem:
    """A weight and what is known of its inputs."""

    weight: torch.Tensor  # (out, in)
    hessian: torch.Tensor  # of the calibration tokens, (in, in)
    fresh: torch.Tensor  # of the validation tokens, (in, in)


def problem(rows: int, columns: int, kind: str, seed: int = 0, tokens: int = TOKENS) -> Problem:
    """The reference problem of this size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    rank = columns // 4
    strengths = torch.arange(1, rank + 1).float() ** -0.5
    strengths /= strengths.square().mean().sqrt()
    factors = normal(columns, rank) / math.sqrt(rank) * strengths
    scales = (0.5 * normal(columns)).exp()
    scales[torch.randperm(columns, generator=generator)[: max(1, columns // 100)]] *= 8

    def hessian() -> torch.Tensor:
        noise = 0.3 * normal(columns, tokens)
        inputs = scales[:, None] * (factors @ normal(rank, tokens) + noise)
        return inputs @ inputs.T / tokens

    calibration, fresh = hessian(), hessian()
    weight = normal(rows, columns) / math.sqrt(columns)
    if kind == "decaying":
        size = min(rows, columns)
        left, right = (torch.linalg.qr(normal(n, size)).Q for n in (rows, columns))
        weight = (left * torch.arange(1, size + 1).float() ** -0.5) @ right.T
        weight /= weight.std() * math.sqrt(columns)
    return Problem(weight, calibration, fresh)


Method = Callable[[Problem, str, float], torch.Tensor]


def ours(name: str, repair_steps: int = 20, **options: float | str) -> Method:
    """A solver of this package."""

    def method(p: Problem, pattern: str, sparsity: float) -> torch.Tensor:
        return solve(
            name,
            p.weight,
            None if ":" in pattern else 1 - sparsity,
            pattern,
            statistics={
                "hessian": p.hessian,
                "norms": p.hessian.diagonal().sqrt(),
                "samples": torch.tensor(float(TOKENS)),
            },
            repair_steps=repair_steps,
            **options,
        ).weight

    return method


def theirs(function: Callable[..., torch.Tensor]) -> Method:
    """A published solver, from its formulas."""

    def method(p: Problem, pattern: str, sparsity: float) -> torch.Tensor:
        n_of_m = None
        if ":" in pattern:
            n, m = pattern.split(":")
            n_of_m = (int(n), int(m))
        return function(p.weight, p.hessian, sparsity, n_of_m)

    return method


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    label: str
    method: Method
    slow: bool = False


ENTRIES = [
    Entry("magnitude", ours("magnitude", 0)),
    Entry("Wanda", ours("wanda", 0)),
    Entry("Wanda + repair", ours("wanda")),
    Entry("SparseGPT, original", theirs(reference.sparsegpt)),
    Entry("SparseGPT", ours("sparsegpt", 0)),
    Entry("SparseGPT + repair", ours("sparsegpt")),
    Entry("ALPS, original", theirs(reference.alps), slow=True),
    Entry("admm + repair (default)", ours("admm")),
    Entry("admm + repair, λ = 0.002", ours("admm", damping=0.002)),
]


@dataclass(frozen=True)
class Cell:
    """One method on one problem."""

    shape: str
    kind: str
    case: str
    method: str
    calibration: float
    validation: float
    seconds: float


def measured(repeats: int, shapes: list[tuple[int, int]]) -> Iterator[Cell]:
    """Every method on every problem."""
    for rows, columns in shapes:
        for kind in KINDS:
            p = problem(rows, columns, kind)
            for case, (pattern, sparsity) in CASES.items():
                for entry in ENTRIES:
                    times = []
                    for _ in range(1 if entry.slow else repeats):
                        started = time.process_time()
                        pruned = entry.method(p, pattern, sparsity)
                        times.append(time.process_time() - started)
                    errors = (
                        relative_error(p.weight, pruned, hessian.double()).item()
                        for hessian in (p.hessian, p.fresh)
                    )
                    yield Cell(f"{rows}×{columns}", kind, case, entry.label, *errors, min(times))


def claims(cells: list[Cell]) -> list[str]:
    """What the run shows of the originals and of ours, over all problems."""
    by = {(c.shape, c.kind, c.case, c.method): c for c in cells}
    problems = list(dict.fromkeys((c.shape, c.kind, c.case) for c in cells))

    def compared(mine: str, other: str) -> tuple[list[float], ...]:
        pairs = [(by[*p, mine], by[*p, other]) for p in problems]
        return (
            [a.seconds / b.seconds for a, b in pairs],
            [a.calibration / b.calibration for a, b in pairs],
            [a.validation / b.validation for a, b in pairs],
            [abs(a.calibration - b.calibration) for a, b in pairs],
        )

    time_, cal, _, gap = compared("SparseGPT", "SparseGPT, original")
    lines = [
        f"SparseGPT against its original: time {span(time_)}; error {span(cal, 4)} "
        f"of its (largest difference {max(gap):.1e})."
    ]
    for label in ("admm + repair (default)", "admm + repair, λ = 0.002"):
        time_, cal, val, _ = compared(label, "ALPS, original")
        lines.append(
            f"{label} against ALPS: time {span(time_)}, validation error {span(val)}, "
            f"calibration error {span(cal)}."
        )
    return lines


def span(values: list[float], digits: int = 2) -> str:
    """Smallest, median and largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{low:.{digits}f}–{high:.{digits}f}× (median {middle:.{digits}f}×)"


def markdown(cells: list[Cell]) -> str:
    """One table a kind of weight: a row a method, a column a shape and case."""
    text = []
    for kind in KINDS:
        found = [c for c in cells if c.kind == kind]
        heads = list(dict.fromkeys((c.shape, c.case) for c in found))
        title = {"gaussian": "Gaussian weights", "decaying": "Weights with a decaying spectrum"}
        text += [f"{title[kind]}: validation error (calibration error), CPU seconds.", ""]
        text.append("| | " + " | ".join(f"{shape}, {case}" for shape, case in heads) + " |")
        text.append("|---" * (len(heads) + 1) + "|")
        for entry in ENTRIES:
            row = {(c.shape, c.case): c for c in found if c.method == entry.label}
            values = [
                f"{row[h].validation:.6f} ({row[h].calibration:.6f}) {row[h].seconds:.2f} s"
                for h in heads
            ]
            text.append(f"| {entry.label} | " + " | ".join(values) + " |")
        text.append("")
    return "\n".join([*(f"- {line}" for line in claims(cells)), "", *text]).rstrip()


BEGIN, END = "<!-- table: written by benchmarks/solvers.py -->", "<!-- end of the table -->"


def write_docs(path: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file for every figure")
    parser.add_argument("--docs", type=Path, help="page whose table is rewritten")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first few")
    arguments = parser.parse_args()
    console = Console()
    if torch.get_num_threads() > 1:
        console.print("More than one thread: CPU seconds add up over threads.", style="yellow")
    table = Table("problem", "weights", "case", "method", "calibration", "validation", "CPU s")
    cells = []
    for cell in measured(arguments.repeats, SHAPES[: arguments.shapes]):
        cells.append(cell)
        table.add_row(
            cell.shape,
            cell.kind,
            cell.case,
            cell.method,
            f"{cell.calibration:.6f}",
            f"{cell.validation:.6f}",
            f"{cell.seconds:.3f}",
        )
    console.print(table)
    for line in claims(cells):
        console.print(line)
    if arguments.output:
        about = {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
        result = {**about, "threads": torch.get_num_threads(), "cells": [asdict(c) for c in cells]}
        arguments.output.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if arguments.docs:
        write_docs(arguments.docs, markdown(cells))


if __name__ == "__main__":
    main()
