"""Patterns: what a pruning takes away, one file each.

    parse("block:4x4").plan(job, settings)

A pattern says what it can touch and what a unit of it is, plans, and carries a plan out. The
pipeline never asks which one it holds; a new pattern is one file, registered by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import torch
from torch import nn

from graphs.build.search import Rebuilt
from graphs.tools.registry import Registry, unknown
from metaprune.advice import Advisor
from metaprune.job import Job
from metaprune.results.provenance import versions
from metaprune.settings import Settings
from pruners import Plan, fingerprint
from pruners.curves import rounded
from pruners.recovery.base import Pruning, Recovery, Stage
from pruners.transformations import Request

Prunes: TypeAlias = Literal["axes", "weights"]


class Pattern(Protocol):
    """What a pruning takes away.

    The laws: a plan costs at most what was asked, and within one unit of the pattern of it, or is
    refused with what can be reached; what the plan says can be read from its fields alone (`kept`,
    `density`, `rank`, `dropped`), so that it replays without the pattern; and weights outside a
    mask are 0.

    `plan` and `carry_out` are the work, the other members answers of a line; a pattern may let
    another one do either.

    Attributes:
        forms: how it is written, for people: "N:M", "block:RxC".
        prunes: "axes" (shapes get smaller) or "weights" (masks and factors).
        advised: whether a metanetwork can advise its budget.
        once: why it cannot be done in several steps; None where it can.
        replaces: whether other layers take the place of those of the model.
        bounded: whether `min_units` and `round_to` of the settings bound what stays.
    """

    forms: ClassVar[tuple[str, ...]]
    prunes: ClassVar[Prunes]
    advised: ClassVar[bool]
    once: ClassVar[str | None]
    replaces: ClassVar[bool]
    bounded: ClassVar[bool]

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The pattern that a text means; None where it means none of this kind.

        Raises:
            ValueError: a text that is meant for it and makes no sense.
        """

    @property
    def name(self) -> str:
        """As it is written; `read` reads it back."""

    @property
    def chooses(self) -> bool:
        """Whether there is anything left to choose, so that a target is needed."""

    def describe(self) -> str:
        """One sentence for people."""

    def budgets(self) -> list[str]:
        """Rules that can divide it."""

    def solvers(self) -> list[str]:
        """Solvers that give what it consists of."""

    def default_budget(self, measured: bool) -> str:
        """The rule where none is named and no metanetwork advises; `measured` with calibration."""

    def default_solver(self, measured: bool) -> str:
        """The solver where none is named: the one with the smallest error on fresh inputs."""

    def default_recovery(self) -> tuple[str, ...]:
        """What makes up for it where nothing is said and there are batches."""

    def eased(self, job: Job, settings: Settings) -> Request | None:
        """What a transformation is asked that makes it easier; None where none does.

        Args:
            job: what is pruned.
            settings: without anything left to a default.
        """

    def plan(self, job: Job, settings: Settings) -> Plan:
        """Decide what goes.

        Args:
            job: what is pruned.
            settings: without anything left to a default.

        Raises:
            UnreachableTargetError: before any work, with the reachable range.
            ValueError: nothing of the network can carry the pattern.
        """

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """Build the pruned module: `small`, `pruned` and `masks` of the pruning are filled in.

        Args:
            pruning: its plan fits its network; methods of the stage "before" have acted.
            methods: those of the stage "solve" are called from here.
        """


PATTERNS: Registry[type[Pattern]] = Registry("pattern")
"""Kind of pattern → class; `parse` asks each of them."""

pattern = PATTERNS.register


def parse(text: str) -> Pattern:
    """The pattern that a text means.

    Raises:
        ValueError: none; says what there is.
    """
    for kind in PATTERNS.values():
        found = kind.read(text)
        if found is not None:
            return found
    raise ValueError(
        unknown("pattern", text, [f for kind in PATTERNS.values() for f in kind.forms])
    )


def run(methods: Sequence[Recovery], stage: Stage, pruning: Pruning) -> bool:
    """Let the recovery methods of a stage act, in their order; whether there were any."""
    chosen = [method for method in methods if method.stage == stage]
    folder = pruning.folder
    several = folder is not None and sum("data" in method.needs for method in chosen) > 1
    for number, method in enumerate(chosen, start=1):
        if folder is not None and several:
            # Each training has checkpoints of its own.
            pruning.folder = folder / f"{number:02d}-{method.name}"
        with pruning.step(method.name):
            method.recover(pruning)
        if pruning.pruned is not None:
            insist_on_masks(method.name, pruning.pruned, pruning.masks)
    pruning.folder = folder
    return bool(chosen)


def insist_on_masks(name: str, pruned: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Refuse what a recovery method did to weights outside their masks.

    Raises:
        RuntimeError: some are not 0; names the method and the first such weight.
    """
    for weight, mask in masks.items():
        value = pruned.get_parameter(weight).detach()
        if bool((value[~mask.to(value.device)] != 0).any()):
            raise RuntimeError(
                f'the recovery method "{name}" brought back weights of "{weight}" that are outside '
                "its mask; let it leave them at 0"
            )


def advise(job: Job, settings: Settings, share: float) -> tuple[Any, dict[str, Any]]:
    """What the metanetwork of the settings says of a network, and what a plan records of it.

    Args:
        job: what is pruned.
        settings: of the pruning.
        share: of the cost that stays.

    Returns:
        A `metanet.Transformation` and an entry for the provenance; None and nothing without one.
    """
    if settings.metanet is None:
        return None, {}
    advisor = Advisor.hire(settings.metanet, share, job.calibration)
    advice = advisor.advise(job.net, job.model, job.calibration)
    return advice, {"metanet": advisor.entry()}


def foretold(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan records of the loss that its budget is expected to cost; nothing without.

    Args:
        evidence: that the rule read.
    """
    expected = evidence.get("expected")
    if expected is None:
        return {}
    tried = {way: rounded(lost) for way, lost in expected.tried.items()}
    found: dict[str, Any] = {"tried": tried} if tried else {}
    if expected.candidates:
        found["candidates"] = expected.candidates
    if expected.prediction is None:
        return found
    unreached = expected.unreached
    if unreached and len(unreached) == len(expected.sides):
        # Where no gradient arrives anywhere, losses are relative to nothing.
        why = next(iter(unreached.values()))
        return {**found, "no_expected_loss": f"by what layers lose of their own outputs: {why}"}
    more = {"unreached": unreached} if unreached else {}
    return {**found, "expected_loss": {**expected.prediction.to_json(), **more}}


def provenance(job: Job, settings: Settings, **more: Any) -> dict[str, Any]:
    """Where a plan comes from: settings, versions and fingerprints."""
    return {
        "settings": settings.to_json(),
        "versions": versions(),
        "fingerprints": fingerprint(job.net),
        **more,
    }
