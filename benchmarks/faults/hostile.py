"""Folders that mean harm, and prunings in several threads."""

from __future__ import annotations

import json
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

import metaprune
from benchmarks.faults.killed import Tally
from benchmarks.faults.mutated import SLOW, ran
from graphs.tools.documents import FileError
from tests.metaprune.saving import attacks as tables


def hostile(here: Path) -> Tally:
    """Folders that name what would be run, fetched or far too large, with digests that fit."""
    tally = Tally("folders that mean harm", "metaprune.load")
    made = tables.write_folders(here)
    for name, (kind, file, edit) in tables.attacks().items():
        work = here / "work" / kind
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(made / kind, work)
        tables.change(work, file, edit)
        ran.clear()
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                metaprune.load(work)
            outcome, said = "opened", ""
        except (FileError, FileNotFoundError) as error:
            outcome, said = "refused", str(error)
        except Exception as error:
            outcome, said = "raw traceback", f"{type(error).__name__}: {error}"[:300]
        took = time.perf_counter() - started
        if ran:
            outcome, said = "code executed", str(ran[:3])
        elif took > SLOW:
            outcome, said = "slow", f"{took:.1f} s"
        tally.add(outcome, "" if outcome == "refused" else f"{name}: {said}")
    return tally


def threads(count: int) -> Tally:
    """Different networks pruned at the same time, against the same one after the other."""
    tally = Tally("prunings in four threads at once", "metaprune.prune")

    def pruned(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 4)
        ).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = torch.randn(16, 8, generator=generator)
        options = {"target": {"params": "60%"}} if seed % 2 else {"pattern": "2:4"}
        result = metaprune.prune(model, (x[:2],), calibration=[x], metanet=None, **options)
        return dict(result.model.state_dict())

    flags = _flags()
    for turn in range(0, count, 4):
        seeds = range(turn, turn + 4)
        expected = [pruned(seed) for seed in seeds]
        found: dict[int, Any] = {}

        def work(seed: int, found: dict[int, Any] = found) -> None:
            try:
                found[seed] = pruned(seed)
            except Exception as error:
                found[seed] = error

        running = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        for seed, wanted in zip(seeds, expected, strict=True):
            got = found[seed]
            if isinstance(got, Exception):
                tally.add("raw traceback", f"{type(got).__name__}: {got}"[:300])
            elif got.keys() != wanted.keys() or not all(
                torch.equal(got[name], wanted[name]) for name in wanted
            ):
                tally.add("silently different", f"seed {seed}")
            elif _flags() != flags:
                tally.add("flags left switched", json.dumps(_flags()))
            else:
                tally.add("equal")
    return tally


def _flags() -> list[Any]:
    """Settings of the whole process that prunings change for a while."""
    return [
        torch.backends.mha.get_fastpath_enabled(),
        torch.compiler.is_exporting(),
        torch.is_grad_enabled(),
        len(warnings.filters),
        torch.get_default_dtype() is torch.float32,
    ]
