"""Members of a zoo on disk: a folder {spec.json, model.safetensors, metrics.json} each.

    zoo/train/residual-00003/    members that a metanetwork may learn from
    zoo/held_out/plain-50001/    members that only judge it

`metrics.json` is written last: a folder without it is not yet a member.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from graphs.tools.bounds import check_size
from graphs.tools.digests import digest
from graphs.tools.documents import FileError, read_json, read_text, told
from graphs.tools.files import read_tensors, write_tensors, write_text
from training.store import load_state, state_of
from training.zoo.registry import Spec, build

PARTS = ("train", "held_out")
SPEC, MODEL, METRICS = "spec.json", "model.safetensors", "metrics.json"
REMEDY = "delete the folder and run `metaprune zoo` again"


@dataclass(frozen=True)
class Member:
    """One trained network.

    Args:
        folder: where it is.
        spec: what it is.
        metrics: validation figures, the data set and its fingerprint, parameters, seconds.
    """

    folder: Path
    spec: Spec
    metrics: Mapping[str, Any]

    @property
    def held_out(self) -> bool:
        """Return whether the member may only judge a metanetwork."""
        return self.folder.parent.name == "held_out"

    def load(self) -> nn.Module:
        """Return the trained network, in evaluation mode.

        Raises:
            ValueError: if its weights are damaged or do not fit its specification.
        """
        path = self.folder / MODEL
        tensors, record = read_tensors(path)
        with told(path, REMEDY):
            if record is not None and record.get("spec") != digest(self.spec.to_json()):
                raise ValueError(f"its weights are of another specification than {SPEC!r}")
            check_size(lambda: build(self.spec), tensors, times=1)
            model = build(self.spec)
        load_state(model, tensors, str(path))
        return model.eval()


def load_member(folder: str | Path) -> Member:
    """Read a member's specification and metrics; `.load()` reads the weights.

    Raises:
        FileNotFoundError: if the folder is not a complete member.
        ValueError: if its specification cannot be read.
    """
    folder = Path(folder)
    missing = [name for name in (SPEC, MODEL, METRICS) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"{str(folder)!r} is not a complete zoo member: it lacks {', '.join(missing)}"
        )
    with told(folder / SPEC, REMEDY):
        spec = Spec.from_json(read_text(folder / SPEC, REMEDY, below=folder))
    metrics = read_json(folder / METRICS, REMEDY, below=folder)
    if not isinstance(metrics, dict):
        raise FileError(f"{str(folder / METRICS)!r} is damaged: it is no object; {REMEDY}")
    return Member(folder, spec, metrics)


def save_member(
    folder: str | Path, spec: Spec, model: nn.Module, metrics: Mapping[str, Any]
) -> Member:
    """Write a member's folder; a crash leaves no folder that passes for a member."""
    folder = Path(folder)
    write_text(folder / SPEC, spec.to_json())
    write_tensors(folder / MODEL, state_of(model), {"spec": digest(spec.to_json())})
    write_text(folder / METRICS, json.dumps(dict(metrics), indent=2))
    return Member(folder, spec, metrics)


def members(zoo: str | Path, part: str = "train") -> list[Member]:
    """Return the complete members of a zoo's part, sorted by name.

    Args:
        zoo: folder that `build_zoo` wrote.
        part: `train` or `held_out`.

    Raises:
        FileNotFoundError: if there are none.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)} (got {part!r})")
    found = sorted(path.parent for path in Path(zoo).glob(f"{part}/*/{METRICS}"))
    if not found:
        raise FileNotFoundError(
            f"{str(zoo)!r} holds no {part} members; make some with `metaprune zoo`"
        )
    return [load_member(folder) for folder in found]
