"""The steps of a schedule on disk, so that an interrupted one continues where it was.

A folder holds `schedule.json`, which says whose steps these are; for every step what its
transformation found and its plan, as soon as they are there; and a folder for every step that is
done: its plan, report, tensors and masks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graphs import trace
from graphs.tools.documents import read_json, read_text, told
from graphs.tools.files import read_tensors, whole_folder, write_tensors, write_text
from metaprune.job import Job
from metaprune.results.history import History, remember
from metaprune.results.pruned import Pruned
from metaprune.saving.replay import carried_out
from pruners import Plan
from training.store import load_state, state_of

WHOSE, PLAN, REPORT = "schedule.json", "plan.json", "report.json"
AGAIN = "delete the folder, and its pruning starts again"
MODEL, MASKS = "model.safetensors", "masks.safetensors"


class Steps:
    """What is done of a schedule.

    Args:
        folder: of the steps; made where it is missing.
        whose: settings and fingerprints of the pruning that they belong to, plain JSON values.

    Raises:
        ValueError: the folder holds the steps of another pruning.
    """

    def __init__(self, folder: Path, whose: Mapping[str, Any]) -> None:
        self.folder = folder
        path = folder / WHOSE
        text = json.dumps(whose, indent=2, sort_keys=True) + "\n"
        if path.exists() and read_text(path, AGAIN) != text:
            raise ValueError(
                f"{str(folder)!r} holds the steps of another pruning (other settings, weights or "
                "data); give another folder, or delete it"
            )
        write_text(path, text)

    def at(self, number: int) -> Path:
        """The folder of a step, counted from 1."""
        return self.folder / f"step-{number:02d}"

    def planned(self, number: int, make: Callable[[Path], Plan]) -> Plan:
        """The plan of a step: the one that was written down, or a new one, which is.

        Args:
            number: of the step.
            make: from a file that keeps what a transformation found, a plan.
        """
        path = self.folder / f"plan-{number:02d}.json"
        if path.is_file():
            return Plan.load(path)
        plan = make(self.folder / f"transform-{number:02d}.safetensors")
        plan.save(path)
        return plan

    def keep(self, number: int, found: Pruned) -> None:
        """Write a step down, whole or not at all."""
        with whole_folder(self.at(number)) as inside:
            found.plan.save(inside / PLAN)
            write_text(inside / REPORT, json.dumps(found.report, indent=1) + "\n")
            write_tensors(inside / MODEL, state_of(found.model))
            write_tensors(inside / MASKS, found.masks)

    def kept(self, number: int, job: Job) -> Pruned | None:
        """A step that was written down, bit for bit; None for one that was not.

        Args:
            number: of the step.
            job: what the step started from.
        """
        inside = self.at(number)
        if not inside.is_dir():
            return None
        plan, report = Plan.load(inside / PLAN), read_json(inside / REPORT, AGAIN, below=inside)
        with told(inside, AGAIN):
            model: nn.Module = carried_out(job.net, plan.steps[-1])
            load_state(model, read_tensors(inside / MODEL, below=inside)[0], str(inside / MODEL))
        masks = read_tensors(inside / MASKS, below=inside)[0]
        remember(model, History(job.dense, plan, masks))
        return Pruned(
            model=model,
            plan=plan,
            report=report,
            network=trace(model, job.example_inputs),
            example_inputs=job.example_inputs,
            dense=job.dense,
            masks=masks,
        )
