"""A pruning from settings to a result, step by step as its schedule says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from graphs.build.attributes import Repair
from graphs.tools.digests import digest, tensors_digest
from metaprune.applying import apply_step, next_job, refuse_in_place, repairs
from metaprune.job import Job
from metaprune.planning import plan_job, recovery_methods, resolved
from metaprune.results.pruned import Pruned
from metaprune.schedules.base import parse
from metaprune.schedules.steps import Steps
from metaprune.settings import Settings
from pruners import fingerprint
from pruners.recovery.base import Recovery
from pruners.targets import MetAlreadyError


@dataclass(frozen=True)
class Run:
    """What a schedule gave.

    Args:
        pruned: after the last step; its report says what was asked for in the end.
        job: that the last step started from.
        repaired: attributes that were brought in line with new shapes, over all steps.
    """

    pruned: Pruned
    job: Job
    repaired: tuple[Repair, ...]


def run_schedule(
    job: Job,
    settings: Settings,
    methods: list[Recovery] | None = None,
    checkpoints: Path | None = None,
    inplace: bool = False,
) -> Run:
    """Prune in as many steps as the schedule has, with recovery after each.

    Args:
        job: what is pruned.
        settings: how.
        methods: of recovery; those of the settings when None.
        checkpoints: folder that keeps what a transformation found, the plan of every step, every
            step that is done, and what methods that train write; a call with the same settings,
            weights and data continues from it, to the same result.
        inplace: whether the result is to be put into the very module: refused before any work
            where it cannot be.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        ValueError: settings that do not fit each other, the model or what is there.
    """
    pattern, _ = resolved(settings, job.measured)
    if inplace:
        refuse_in_place(pattern.name if pattern.replaces else None, settings.transform is not None)
    methods = recovery_methods(job, settings) if methods is None else methods
    targets = list(parse(settings.schedule).targets(job.net, settings.wanted, pattern))
    if settings.transform is not None:
        # Later steps start from a network that may have more parameters, whose ties are undone.
        targets[1:] = [None if one is None else one.in_amounts(job.net) for one in targets[1:]]
    steps, several = None, len(targets) > 1
    if checkpoints is not None:
        whose: dict[str, Any] = {
            "settings": settings.to_json(),
            "fingerprints": fingerprint(job.net),
            "calibration": None if job.calibration is None else job.calibration.digest,
        }
        if job.history is not None:
            whose["before"] = digest(job.history.plan.to_json(), tensors_digest(job.history.masks))
        if job.data is not None:
            whose["data"] = job.data.fingerprint
        steps = Steps(checkpoints, whose)
    repaired: list[Repair] = []
    found: Pruned | None = None
    for number, target in enumerate(targets, start=1):
        job = job if found is None else next_job(job, found)
        one = replace(settings, target=None if target is None else target.asked)
        if several:
            one = replace(one, budget=_of_step(settings.budget, number))
        if found is not None:
            one = replace(one, transform=None)  # masks of the last step would not turn
        done = None if steps is None else steps.kept(number, job)
        if done is None:
            make = partial(plan_job, job, one)
            try:
                plan = make() if steps is None else steps.planned(number, make)
            except MetAlreadyError:
                if number == len(targets):
                    raise
                continue  # Earlier prunings went further than this step would.
            inside = checkpoints
            if steps is not None and several:
                inside = steps.folder / f"training-{number:02d}"
            done = apply_step(job, plan, methods, inside)
            if steps is not None:
                steps.keep(number, done)
        found = done
        repaired += repairs(found)
    assert found is not None
    asked = {} if settings.wanted is None else settings.wanted.asked
    found = replace(found, report={**found.report, "asked": asked})
    return Run(found, job, tuple(repaired))


def _of_step(budget: str | Mapping[str, Any] | None, number: int) -> str | Mapping[str, Any] | None:
    """A budget whose search writes into a journal of its own in every step."""
    if not isinstance(budget, Mapping) or not isinstance(budget.get("journal"), str | Path):
        return budget
    path = Path(budget["journal"])
    return {**budget, "journal": str(path.with_name(f"{path.stem}-{number:02d}{path.suffix}"))}
