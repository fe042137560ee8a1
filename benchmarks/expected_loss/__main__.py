"""Measure budget rules on fixed protocols, or print what was measured.

    OMP_NUM_THREADS=1 python -m benchmarks.expected_loss masks channels --rules uniform erk
    python -m benchmarks.expected_loss masks --table

Every cell (benchmark, network, pattern, target, examples, rule, seed) is one line of
OUTPUT/<benchmark>.jsonl, written when it is done: the same command continues a run that was
interrupted. Rules that cannot divide a pattern are passed over.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from benchmarks.expected_loss import tables
from benchmarks.expected_loss.cells import DENSE, Cell, Records, Subject, dense, measured
from benchmarks.expected_loss.rules import COMPONENTS, FINISHED, METANET, RULES, TRANSFORMED
from benchmarks.expected_loss.suites import SUITES, Ask, Sources
from metaprune.patterns import parse

RECORDS = Path(__file__).resolve().parents[1] / "records" / "expected_loss"


def main() -> None:
    """Fill the cells that are asked for and missing, or print the tables."""
    given = arguments()
    if given.table:
        for name in given.benchmarks:
            print(tables.of(name, [*Records(given.output / f"{name}.jsonl")], given.recorded))
        return
    torch.set_num_threads(1)
    roots = {name: getattr(given, name) for name in Sources.__dataclass_fields__}
    sources = Sources(**roots)

    @lru_cache(maxsize=64)
    def subject(benchmark: str, model: str, examples: int, seed: int) -> Subject:
        return SUITES[benchmark].subject(sources, model, examples, seed)

    for cell in cells(given, sources):
        records = Records(given.output / f"{cell.benchmark}.jsonl")
        rule = SUITES[cell.benchmark].rules.get(cell.rule)
        if cell.rule == METANET and rule is not None:
            rule = replace(rule, settings={**rule.settings, "metanet": given.metanet})
        if records.has(cell, {} if rule is None else rule.settings):
            continue
        at = subject(cell.benchmark, cell.model, cell.examples, cell.seed)
        line = dense(cell, at) if rule is None else measured(cell, rule, at)
        records.add(line)
        shown = line.get("figures") or line["refused"]
        took = line.get("seconds", "")
        place = (cell.model, cell.pattern, cell.target, cell.examples, cell.rule, cell.seed)
        print(time.strftime("%H:%M:%S"), cell.benchmark, *place, shown, took, flush=True)


def cells(given: argparse.Namespace, sources: Sources) -> Iterator[Cell]:
    """The cells that are asked for, rule by rule, after the dense networks."""
    for name in given.benchmarks:
        suite = SUITES[name]
        asks = [ask for ask in suite.asks(sources) if wanted(ask, given)]
        sizes = {ask.model: ask.examples for ask in reversed(asks)}
        for model, examples in sizes.items():
            yield Cell(name, model, DENSE, {}, examples, DENSE)
    for label in given.rules:
        for name in given.benchmarks:
            suite = SUITES[name]
            rule = suite.rules.get(label)
            for seed in given.seeds or suite.seeds:
                for ask in suite.asks(sources):
                    if wanted(ask, given) and rule and rule.fits(parse(ask.pattern)):
                        yield Cell(
                            name, ask.model, ask.pattern, ask.target, ask.examples, label, seed
                        )


def wanted(ask: Ask, given: argparse.Namespace) -> bool:
    """Whether the command line asks for it."""
    return (
        (not given.models or ask.model in given.models)
        and (not given.patterns or ask.pattern in given.patterns)
        and (not given.examples or ask.examples in given.examples)
    )


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("benchmarks", nargs="*", default=list(SUITES), metavar="benchmark",
                        help=f"of {', '.join(SUITES)}; default all")  # fmt: skip
    rules = [*RULES, *TRANSFORMED, *COMPONENTS, *FINISHED]
    parser.add_argument("--rules", nargs="+", default=rules, choices=rules)
    parser.add_argument("--models", nargs="+", help="networks; default all")
    parser.add_argument("--patterns", nargs="+", help="default all")
    parser.add_argument("--examples", nargs="+", type=int, help="calibrations of these sizes alone")
    parser.add_argument("--seeds", nargs="+", type=int, help="of the calibration")
    parser.add_argument("--output", type=Path, default=RECORDS, help="folder of the records")
    parser.add_argument("--llamas", type=Path, default=Path("models"),
                        help="folder of stories260K and TinyStories-656K")  # fmt: skip
    parser.add_argument("--tinystories", type=Path, default=Path("tinystories"),
                        help="folder of tinystories_2M.txt and tinystories_val.txt")  # fmt: skip
    parser.add_argument("--resnets", type=Path, default=Path("models/cifar10-resnets"),
                        help="folder of resnet20-*.th, resnet32-*.th, resnet56-*.th")  # fmt: skip
    parser.add_argument("--cifar10", type=Path, default=Path("cifar10"),
                        help="folder of train-*.parquet and test-*.parquet")  # fmt: skip
    parser.add_argument("--zoo", type=Path, default=Path("zoo"),
                        help="folder of train and held_out members")  # fmt: skip
    parser.add_argument("--small", type=Path, default=Path("small"),
                        help="folder that benchmarks.small_models wrote")  # fmt: skip
    parser.add_argument("--metanet", default="default", help="of the rule of this name")
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    parser.add_argument("--recorded", type=Path,
                        help="rows of other measurements for the table of the zoo")  # fmt: skip
    found = parser.parse_args()
    unknown = [name for name in found.benchmarks if name not in SUITES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: expected some of {', '.join(SUITES)}")
    return found


if __name__ == "__main__":
    main()
