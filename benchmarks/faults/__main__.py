r"""Faults on purpose, counted: kills, full disks, signals, damaged files, hostile folders, threads.

    python -m benchmarks.faults [--kills 200] [--mutations 5000] [--only WORD ...]     (make faults)

Every row of the record says how many were done; a shorter run replaces the rows that it measures.
The page docs/reliability.md is made of it by `python -m benchmarks.pages`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.faults import commands, hostile, killed, mutated
from benchmarks.faults.killed import Ground, Tally
from benchmarks.faults.samples import samples
from benchmarks.pages.records import FAULTS
from graphs.tools.files import write_text
from metaprune.results.provenance import machine, versions


def tallies(asked: argparse.Namespace, here: Path) -> Iterator[Tally]:
    """Every kind of fault, one after the other."""

    def wanted(*words: str) -> bool:
        return not asked.only or all(any(o in w for w in words) for o in asked.only)

    mutated.watch()
    if wanted("hostile"):
        yield hostile.hostile(here / "hostile")
    if wanted("threads"):
        yield hostile.threads(asked.threads)
    if asked.mutations:
        for kind, sample in samples(here / "samples").items():
            if wanted("mutated", kind):
                work = here / "mutated"
                yield mutated.mutated(kind, sample, asked.mutations, work, asked.seed)
    for name in commands.COMMANDS:
        if asked.kills and wanted("killed", name):
            yield from _killed(Ground(name, here / "ground"), asked)


def _killed(ground: Ground, asked: argparse.Namespace) -> Iterator[Tally]:
    most: int | None = asked.renames
    kills: Callable[..., Tally] = killed.at_random
    yield kills(ground, signal.SIGKILL, asked.kills, asked.seed)
    yield kills(ground, signal.SIGTERM, asked.signals, asked.seed)
    yield kills(ground, signal.SIGINT, asked.signals, asked.seed)
    yield killed.at_renames(ground, most, asked.seed)
    yield killed.full_disk(ground, most, asked.seed)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the record after every kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="random moments, for each command")
    parser.add_argument("--signals", type=int, default=50, help="for each command and signal")
    parser.add_argument("--renames", type=int, help="at most so many; all when left out")
    parser.add_argument("--mutations", type=int, default=5000, help="for each kind of file")
    parser.add_argument("--threads", type=int, default=40, help="prunings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="words: mutated plan, killed zoo")
    parser.add_argument("--record", type=Path, default=FAULTS)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {}
    if asked.record.exists():
        for line in asked.record.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["fault"], row["subject"]] = row
    with tempfile.TemporaryDirectory() as here:
        started = time.perf_counter()
        for tally in tallies(asked, Path(here)):
            took = time.perf_counter() - started
            row = {**tally.row(), "seed": asked.seed, "seconds": round(took, 1)}
            rows[tally.fault, tally.subject] = {
                **row, "versions": versions(), "machine": machine()["processor"],
            }  # fmt: skip
            print(
                f"{took:7.1f} s  {tally.fault}, {tally.subject}: {dict(tally.outcomes)}", flush=True
            )
            for example in tally.examples:
                print(f"           {example}")
            lines = [json.dumps(row) for row in rows.values()]
            write_text(asked.record, "\n".join(lines) + "\n")
            started = time.perf_counter()
    sys.stdout.flush()
    os._exit(0)  # threads of progress bars need not be waited for


if __name__ == "__main__":
    main()
