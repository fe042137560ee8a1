"""Small runs of the command line, and what is compared of what they leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphs.tools.documents import read_json
from graphs.tools.files import UNFINISHED, read_tensors
from metaprune.cli.main import main

QUICK = (
    "calibration.examples=32", "evaluate.limit=32", "latency.batch_size=0", "compare=[]",
    "data.train_size=160", "progress=false", "hydra.run.dir=run",
)  # fmt: skip
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "prune": (
        "prune", "pattern=unstructured", "target.sparsity=[0.5,0.6]", "budget=uniform", *QUICK,
    ),
    "finetune": (
        "prune", "target.speedup=2", "budget=uniform", "finetune=default", "finetune.epochs=2",
        "finetune.batch_size=32", "finetune.checkpoint_every=2", "finetune.progress=false", *QUICK,
    ),
    "zoo": (
        "zoo", "zoo.folder=zoo", "zoo.members=2", "zoo.held_out=1", "zoo.families=[mlp]",
        "zoo.overrides.mlp.epochs=2", "+zoo.data.train_size=100", "hydra.run.dir=run",
    ),
    "train": (
        "train", "zoos=[zoo]", "folder=meta", "meta.steps=6", "meta.judge_every=3",
        "meta.networks=1", "meta.checkpoint_every=2", "+metanet.hidden=8", "+metanet.layers=1",
        "hydra.run.dir=run",
    ),
}  # fmt: skip
"""Name → arguments. `train` needs the zoo that `zoo` makes."""

TIMES = ("seconds", "report.json", "training.json", "README.md", "metaprune.json")


def run(name: str) -> Callable[[], None]:
    """What a process does."""
    return lambda: main(list(COMMANDS[name]))


def contents(folder: Path) -> dict[str, str]:
    """File → digest of what it says, without what differs from run to run: times, and reports."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix not in (".json", ".safetensors"):
            continue
        if path.name in TIMES:
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            data = json.dumps(_timeless(json.loads(data)), sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()[:16]
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "versions")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def half_written(folder: Path) -> str | None:
    """A file under its own name that cannot be read; None where there is none."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.endswith(UNFINISHED) for part in path.parts):
            continue
        try:
            if path.suffix == ".json":
                read_json(path, "")
            elif path.suffix == ".safetensors":
                read_tensors(path)
        except ValueError as error:
            return str(error)
    return None


def left_over(folder: Path) -> str | None:
    """A hidden file or folder that a finished run has left; None where there is none."""
    return next(
        (str(p) for p in sorted(folder.rglob(".*")) if not p.name.startswith(".hydra")), None
    )
