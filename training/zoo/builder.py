"""Building a zoo: members are trained one by one or in parallel, each from its own seed."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from graphs.tools.files import sweep
from training.config import from_mapping
from training.data.core import Data
from training.data.registry import load_settings
from training.fitting.fit import fit
from training.fitting.settings import FitConfig
from training.fitting.tracking import log, within
from training.store import CHECKPOINT
from training.zoo.members import METRICS, Member, load_member, save_member
from training.zoo.registry import FAMILIES, Spec, build, families, sample

HELD_OUT_SEEDS = 1_000_000  # seeds of held-out members start here, so the two never meet


@dataclass(frozen=True)
class ZooConfig:
    """A zoo: what its members are, what they are trained on, and how.

    Args:
        folder: where the members go.
        members, held_out: how many networks to learn from, and to judge by.
        families: among which members are drawn, in turn; every fitting one when None.
        data: `name` and options of the data set.
        fit: settings of `FitConfig`; the seed is the member's own.
        overrides: by family, settings of `FitConfig` that replace those of `fit`.
        seed: of the zoo; member i has seed `seed + i`.
        workers: processes, each with one thread.
    """

    folder: str
    members: int = 60
    held_out: int = 6
    families: tuple[str, ...] | None = None
    data: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits"})
    fit: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    workers: int = 1


def plan_zoo(config: ZooConfig, data: Data) -> list[tuple[Path, Spec]]:
    """Return the folder and specification of every member, the same for the same settings.

    Families take turns, so that a small zoo has all of them; a held-out architecture that
    equals one of the training part is drawn again.
    """
    among = config.families or families(data.shape)
    plans: list[tuple[Path, Spec]] = []
    seen: set[str] = set()
    for part, count, first in (
        ("train", config.members, config.seed),
        ("held_out", config.held_out, config.seed + HELD_OUT_SEEDS),
    ):
        seeds = _distinct(first, among, data, seen)
        for _ in range(count):
            spec = next(seeds)
            plans.append((Path(config.folder) / part / f"{spec.family}-{spec.seed:05d}", spec))
    return plans


def _distinct(first: int, among: tuple[str, ...], data: Data, seen: set[str]) -> Iterator[Spec]:
    """Yield specifications from successive seeds, leaving out architectures seen before."""
    for offset in range(10**6):
        name = among[offset % len(among)]
        spec = sample(first + offset, data.shape, data.outputs, (name,))
        architecture = f"{spec.family} {sorted(spec.options.items())}"
        if architecture not in seen:
            seen.add(architecture)
            yield spec


def fit_settings(config: ZooConfig, spec: Spec) -> FitConfig:
    """How a member is trained: the zoo's settings, its family's in their place, its own seed.

    Raises:
        ValueError: an unknown setting, or a value that a setting does not take.
    """
    common = from_mapping(FitConfig, config.fit, "fit")
    own = config.overrides.get(spec.family, {})
    fitted = from_mapping(FitConfig, {**vars(common), **own}, f"overrides.{spec.family}")
    return replace(fitted, seed=spec.seed)


def train_member(folder: Path, spec: Spec, data: Data, config: ZooConfig) -> Member:
    """Train one member, or return it if its folder is complete; an interrupted one resumes."""
    if (folder / METRICS).is_file():
        member = load_member(folder)
        (folder / CHECKPOINT).unlink(missing_ok=True)  # of a process that was killed just then
        sweep(folder)
        return member
    fit_config = fit_settings(config, spec)
    started = time.perf_counter()
    model = build(spec)
    with within(folder.name):
        result = fit(model, data, fit_config, folder=folder)
    metrics = {
        "best": result.best,
        "last": result.last,
        "best_epoch": result.best_epoch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - started, 2),
        "data": {**config.data, "fingerprint": data.fingerprint},
        "fit": asdict(fit_config),
        "history": result.history,
    }
    member = save_member(folder, spec, model, metrics)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return member


def build_zoo(config: ZooConfig | Mapping[str, Any]) -> list[Member]:
    """Train every member of a zoo that is not there yet; return all of them.

    A member is a function of its specification, the data and the settings, so neither the number
    of workers nor an interruption changes it.

    Args:
        config: a `ZooConfig`, or a mapping of its fields.

    Raises:
        ValueError: for an unknown setting, data set or family.
    """
    config = config if isinstance(config, ZooConfig) else from_mapping(ZooConfig, config)
    data = load_settings(config.data)
    plans = plan_zoo(config, data)
    for _, spec in plans:
        fit_settings(config, spec)  # a mistake is found before the first training
    if config.workers <= 1:
        found = (train_member(folder, spec, data, config) for folder, spec in plans)
        return [_logged(place, member) for place, member in enumerate(found)]
    context = multiprocessing.get_context("spawn")  # tensors of `data` travel as shared memory
    with context.Pool(config.workers, _start_worker, (data, config, _homes(), os.getpid())) as pool:
        found = pool.imap(_work, plans, chunksize=1)
        return [_logged(place, member) for place, member in enumerate(found)]


def _logged(place: int, member: Member) -> Member:
    """The member, whose figures trackers are told: processes of a pool have none."""
    log({f"members/{name}": value for name, value in member.metrics["best"].items()}, place)
    return member


_worker: dict[str, Any] = {}
WATCH = 1.0
"""Seconds between two looks of a worker after its parent."""


def _homes() -> list[str]:
    """The modules that registered families, which a new process must import."""
    return sorted({family.builder.__module__ for family in FAMILIES.values()} - {"__main__"})


def _start_worker(data: Data, config: ZooConfig, homes: list[str], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for home in homes:
        importlib.import_module(home)
    torch.set_num_threads(1)
    _worker.update(data=data, config=config)


def _end_with(parent: int) -> None:
    """End this process once its parent is gone, however that ended: nobody waits for its work."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def _work(plan: tuple[Path, Spec]) -> Member:
    folder, spec = plan
    return train_member(folder, spec, _worker["data"], _worker["config"])
