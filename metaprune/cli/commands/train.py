"""`metaprune train`: train a metanetwork on zoos, and judge it on held-out networks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

import metanet
from graphs.tools.files import write_text
from graphs.tools.words import counted
from metaprune.cli.commands import value
from metaprune.cli.config import listed, run_folder, tracked, typed, typed_command
from metaprune.report.pages.training import page
from metaprune.results.provenance import machine, today, versions
from training.config import from_mapping
from training.fitting import tracking
from training.meta import (
    Judgement,
    MetaConfig,
    MetaResult,
    Subject,
    compare,
    meta_train,
    subjects_of,
)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `conf/train.yaml`, which says what each means."""

    folder: str
    zoos: Sequence[str]
    triples: Sequence[str] | None
    value: Mapping[str, Any]
    metanet: Mapping[str, Any]
    start: str | None
    meta: Mapping[str, Any]
    track: str | Sequence[str] | None
    threads: int | None


def run(config: DictConfig) -> None:
    """Train; the folder gets `metanet.safetensors`, `training.json`, a page and a card."""
    started = time.perf_counter()
    settings, content = typed(TrainConfig, config)
    if settings.triples is not None:
        value.run(settings.folder, settings.zoos, settings.triples, settings.value, content)
        return
    tracking.check(listed(settings.track))
    meta_config = from_mapping(MetaConfig, settings.meta, "meta")
    meta = metanet.load(settings.start) if settings.start else metanet.build(settings.metanet)
    meta.train()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console()
    train, held_out = subjects_of(settings.zoos, "train"), subjects_of(settings.zoos, "held_out")
    console.print(f"{len(train)} networks to learn from, {len(held_out)} to judge by")
    run_folder(content)
    folder = Path(settings.folder)
    with _bar(console) as bar, tracked(settings.track, folder, content):
        row = bar.add_task("train", total=meta_config.steps)

        def report(step: int, loss: float, judgement: Judgement | None) -> None:
            bar.update(row, completed=step + 1, description=f"loss {loss:.3f}")
            if judgement is not None:
                console.print(f"step {step + 1}: {sentence(asdict(judgement))}", highlight=False)

        result = meta_train(meta, train, held_out, meta_config, folder=folder, report=report)
    seconds = time.perf_counter() - started
    metanet.save(meta.eval(), folder / "metanet.safetensors")
    record = {
        "title": f"A metanetwork, trained on {counted(len(train), 'network')}",
        "command": typed_command(),
        "date": today(),
        "figures": {
            "steps": result.steps,
            "networks to learn from": len(train),
            "held-out networks": len(held_out),
            "minutes": round(seconds / 60, 1),
        },
        "base": "the rule that it corrects",
        "comparisons": compared(meta, held_out),
        "best": result.best,
        "history": result.history,
        "seconds": round(seconds, 1),
        "networks": {"train": len(train), "held_out": len(held_out)},
        "data": sorted(
            {f"{subject.data.name} {subject.data.fingerprint[:16]}" for subject in train}
        ),
        "versions": versions(),
        "machine": machine(),
        "config": content,
    }
    write_text(folder / "training.json", json.dumps(record, indent=2) + "\n")
    write_text(folder / "training.html", page(record))
    write_text(folder / "README.md", card(result, record))
    console.print(f"{sentence(result.best)}\nmetanetwork: {folder / 'metanet.safetensors'}")


def compared(meta: nn.Module, held_out: Sequence[Subject]) -> list[dict[str, Any]]:
    """Damages on held-out networks by that of the base rule, as `training.json` holds them."""
    return [
        {
            "network": f"{one.data[:8]}/{one.network}",
            "family": one.family,
            "pattern": "channels",
            "target": f"macs {100 * one.share:.0f}%",
            "rule": rule,
            "damage": damage / one.base,
        }
        for one in compare(meta, held_out)
        for rule, damage in (("base", one.base), ("advised", one.advised))
    ]


def sentence(judged: Mapping[str, float]) -> str:
    """A judgement in words."""
    return (
        f"KL to the dense networks {judged['advised']:.4g} with advice, {judged['base']:.4g} "
        f"without, better on {100 * judged['wins']:.0f} %"
    )


def card(result: MetaResult, record: Mapping[str, Any]) -> str:
    """What the metanetwork is, for a person who finds the file."""
    config, networks, where = record["config"], record["networks"], record["machine"]
    settings = "\n".join(f"- {key}: {value}" for key, value in config["meta"].items())
    best = int(result.best["step"])
    return f"""# A metanetwork

Architecture {config["metanet"]}, trained on {networks["train"]} networks of {len(config["zoos"])} \
zoos ({", ".join(record["data"])}), chosen on {networks["held_out"]} held-out networks \
after {best} of {result.steps} steps; {record["seconds"] / 60:.0f} minutes on \
{where["threads"]} threads of {where["processor"]}.

On the held-out networks, one shot, at 66, 50 and 33 % of the MACs: {sentence(result.best)} of the \
pairs of network and target.

Settings of meta-training:

{settings}
"""


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)
