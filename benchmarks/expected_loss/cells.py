"""One cell: a network pruned by one rule to one target, judged, and written down as one line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import metaprune
from benchmarks.expected_loss.rules import Rule
from graphs import trace
from metaprune.patterns import parse
from metaprune.results.provenance import versions
from pruners import budgets

DENSE = "dense"
"""Pattern and rule of the row of the network as it is."""

MIN_UNITS = 1
"""Any axis may become as narrow as a rule wants it."""


@dataclass(frozen=True)
class Cell:
    """What is measured; its fields are the key of its line.

    Args:
        benchmark: of `suites.SUITES`.
        model: name of the network.
        pattern: of `metaprune.Settings`.
        target: of `metaprune.Settings`; empty for patterns that leave no choice.
        examples: sequences or images of the calibration.
        rule: label of `rules.RULES`.
        seed: of the choice of the calibration.
    """

    benchmark: str
    model: str
    pattern: str
    target: Mapping[str, Any]
    examples: int
    rule: str
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A network with what it is calibrated and judged on.

    Args:
        model: the dense network, in evaluation mode.
        example_inputs: for its forward.
        calibration: batches that the pruning sees.
        judge: pruned network → figures by name; none of what it looks at is in the calibration.
        planned: the same network in a form that hides from plans what is to stay whole; None where
            nothing is hidden. What a plan does not name is still refitted behind pruned weights.
    """

    model: nn.Module
    example_inputs: Any
    calibration: metaprune.Calibration
    judge: Callable[[nn.Module], dict[str, float]]
    planned: nn.Module | None = None

    @property
    def divided(self) -> nn.Module:
        """What plans are made for."""
        return self.model if self.planned is None else self.planned


class Records:
    """Finished cells, one line each, in a file that only grows.

    Args:
        path: of the file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every whole line, in the order of writing."""
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # cut off in writing

    def has(self, cell: Cell, settings: Mapping[str, Any]) -> bool:
        """Whether the cell was measured, with these very settings of its rule."""
        wanted = json.loads(json.dumps({**asdict(cell), "settings": settings}))
        return any(wanted.items() <= line.items() for line in self)

    def add(self, line: Mapping[str, Any]) -> None:
        """Write one line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def measured(cell: Cell, rule: Rule, subject: Subject) -> dict[str, Any]:
    """The line of a cell: its key, settings, figures, CPU seconds, versions and calibration.

    A rule that refuses the cell gives a line with the sentence of its refusal.
    """
    torch.manual_seed(0)
    line: dict[str, Any] = {
        **asdict(cell),
        "settings": dict(rule.settings),
        "calibration": subject.calibration.digest,
        "versions": {**versions(), "commit": commit()},
    }
    given = {"calibration": subject.calibration, **_settings(cell, rule, subject)}
    started = time.process_time()
    try:
        plan = metaprune.plan(subject.divided, subject.example_inputs, **given)
    except ValueError as error:
        return {**line, "refused": f"{type(error).__name__}: {error}"}
    planned = time.process_time()
    recovery = rule.settings.get("recovery")
    result = metaprune.apply(
        subject.model,
        subject.example_inputs,
        plan,
        calibration=subject.calibration,
        recovery=recovery,
    )
    seconds = {"plan": planned - started, "apply": time.process_time() - planned}
    return {
        **line,
        "achieved": {k: v for k, v in plan.achieved.items() if k in cell.target},
        "figures": subject.judge(result.model),
        "seconds": {what: round(number, 2) for what, number in seconds.items()},
    }


def dense(cell: Cell, subject: Subject) -> dict[str, Any]:
    """The line of a network as it is."""
    found = {"settings": {}, "versions": {**versions(), "commit": commit()}}
    return {**asdict(cell), **found, "figures": subject.judge(subject.model)}


def _settings(cell: Cell, rule: Rule, subject: Subject) -> dict[str, Any]:
    """Settings of `metaprune.plan` for a cell."""
    settings = {"metanet": None, **rule.settings}
    settings["pattern"] = cell.pattern
    if parse(cell.pattern).bounded:
        settings["min_units"] = MIN_UNITS
    settings["target"] = dict(cell.target) or None
    if rule.solved:
        name, options = budgets.named(settings["budget"])
        net, batches = (
            trace(subject.model, subject.example_inputs),
            subject.calibration.model_inputs,
        )
        solver = settings.get("solver") or parse(cell.pattern).default_solver(True)
        names = budgets.prunable_weights(net)
        solve = budgets.solving(net, batches, names, solver, cell.pattern)
        settings["budget"] = {"rule": name, **options, "solve": solve}
    return settings


@cache
def commit() -> str:
    """The commit that measures; "unknown" outside of a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
