"""A file of every kind that is read, and what reading it gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import metanet
import metaprune
from graphs.tools.documents import read_text, told
from metaprune.settings import Settings
from pruners import Plan
from training import sources
from training.config import from_mapping
from training.fitting.settings import FitConfig
from training.sources import read_checkpoint
from training.store import read_run, write_run
from training.zoo import sample
from training.zoo.members import load_member, save_member
from training.zoo.registry import build

FAMILY = {
    "source": "family", "family": "mlp", "shape": [1, 4, 4], "outputs": 3,
    "options": {"widths": [12, 8], "act": "relu", "norm": "none"},
}  # fmt: skip
IDENTITY = {"lr": 0.1}


@dataclass(frozen=True)
class Sample:
    """Files of one kind.

    Args:
        folder: that holds them.
        read: folder → what is compared with an undamaged reading.
        edited: whether people edit them, so that another content is no silent fault.
    """

    folder: Path
    read: Callable[[Path], Any]
    edited: bool = False


def samples(here: Path) -> dict[str, Sample]:
    """One of every kind, written below a folder."""
    shutil.rmtree(here, ignore_errors=True)
    torch.manual_seed(0)
    x = torch.randn(2, 1, 4, 4)
    model = sources.load(**FAMILY)
    result = metaprune.prune(model, (x,), target={"params": "60%"}, metanet=None)
    result.save(here / "folder", source=FAMILY)
    exported = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    graph = metaprune.prune(exported, (x,), target={"params": "60%"}, metanet=None)
    graph.save(here / "graph")
    for name in ("plan", "metanetwork", "checkpoint", "config"):
        (here / name).mkdir()
    result.plan.save(here / "plan" / "plan.json")
    small = {"name": "streaming", "hidden": 8, "layers": 1}
    metanet.save(metanet.build(small), here / "metanetwork" / "m.safetensors")
    spec = sample(0, (1, 8, 8), 10, ["mlp"])
    save_member(here / "member", spec, build(spec), {"best": {"accuracy": 0.5}})
    write_run(
        here / "checkpoint" / "c.safetensors", {"model": dict(model.state_dict())}, IDENTITY,
        result={"steps": 3, "best": {"accuracy": 0.5}}, losses=[0.1],
    )  # fmt: skip
    settings = {"pattern": "channels", "target": {"macs": "50%"}, "min_units": 0.1, "round_to": 4}
    text = yaml.safe_dump({"settings": settings, "fit": {"epochs": 3, "lr": 0.1, "seed": 1}})
    (here / "config" / "config.yaml").write_text(text)

    def computed(folder: Path) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = metaprune.load(folder).eval()(x)
        return found

    return {
        "saved folder": Sample(here / "folder", computed),
        "saved graph": Sample(here / "graph", computed),
        "plan": Sample(here / "plan", lambda f: Plan.load(f / "plan.json"), edited=True),
        "metanetwork": Sample(
            here / "metanetwork", lambda f: metanet.load(f / "m.safetensors").state_dict()
        ),
        "zoo member": Sample(here / "member", lambda f: load_member(f).load().state_dict()),
        "checkpoint": Sample(
            here / "checkpoint", lambda f: read_run(f / "c.safetensors", IDENTITY)
        ),
        "weights": Sample(
            here / "checkpoint", lambda f: read_checkpoint(f / "c.safetensors")
        ),
        "config": Sample(here / "config", _config, edited=True),
    }  # fmt: skip


def _config(folder: Path) -> Any:
    path = folder / "config.yaml"
    with told(path, "write it again"):
        content = yaml.safe_load(read_text(path, "write it again"))
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key), dict) for key in ("settings", "fit")
        ):
            raise ValueError("it has no settings")
    return Settings.of(**content["settings"]), from_mapping(FitConfig, content["fit"], "fit")


def same(found: Any, expected: Any) -> bool:
    """Whether two readings are one, bit for bit."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)
