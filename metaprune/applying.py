"""From a job and a plan to a pruned network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import nn

from graphs import Network
from graphs.build.attributes import Repair
from graphs.build.inplace import put_in_place
from graphs.build.search import Rebuilt
from graphs.tools.words import counted, first_of
from metaprune.advice import Advisor
from metaprune.job import Job
from metaprune.patterns import Pattern, parse
from metaprune.patterns.base import run
from metaprune.results.accounting import summary
from metaprune.results.history import History, remember
from metaprune.results.pruned import Pruned
from metaprune.transforming import together
from pruners import Plan, PlanError
from pruners.curves.trial import Judge, in_words, rounded
from pruners.moves import MovesError
from pruners.recovery.base import Pruning, Recovery
from pruners.statistics import NoCurvatureError


def apply_step(
    job: Job, plan: Plan, methods: Sequence[Recovery], folder: Path | None = None
) -> Pruned:
    """Carry out one step of a plan on a traced model; that is left as it was.

    Args:
        job: what is pruned.
        plan: a single step, made for this architecture.
        methods: of recovery.
        folder: for checkpoints of methods that train.

    Raises:
        PlanError: the plan does not fit.
    """
    pattern = parse(plan.pattern)
    _check_fields(plan, pattern)
    started = perf_counter()
    job = _moved(job, plan)
    plan.check(job.net)
    history = job.history
    pruning = _begun(job, plan, folder)
    if plan.moves is not None:
        pruning.seconds["transform"] = round(perf_counter() - started, 4)
    chain = plan if history is None else history.plan.then(plan)
    told = together(s.provenance["transform"] for s in chain.steps if "transform" in s.provenance)
    pruning.held = {} if history is None else history.masks
    if Advisor.of_plan(plan.provenance) is not None:
        with pruning.step("metanetwork"):
            pruning.base = _transformed(job, plan)
            _hold(pruning)
            pruning.dense = pruning.base
    else:
        _hold(pruning)
    if not methods and not job.measured:
        pruning.notes.append("Nothing makes up for what goes: there is no calibration.")
    run(methods, "before", pruning)
    with pruning.step("prune"):
        rebuilt = pattern.carry_out(pruning, methods)
    pruning.notes += rebuilt.notes
    run(methods, "after", pruning)
    assert pruning.pruned is not None
    assert pruning.small is not None
    chain = pruning.plan if history is None else history.plan.then(pruning.plan)
    report = summary(job.dense, job.net, pruning.small, pruning.pruned, chain, pruning.masks)
    _compare_with_foretold(job, plan, pruning, report)
    if told is not None:
        report["transform"] = told
    if why := plan.provenance.get("no_expected_loss"):
        pruning.notes.append(f"Budget divided {why}.")
    report["notes"], report["seconds"] = pruning.notes, pruning.seconds
    report["repaired"] = [list(repair) for repair in rebuilt.repaired]
    report["varied"] = {name: dict(values) for name, values in rebuilt.varied.items()}
    remember(pruning.pruned, History(job.dense, chain, pruning.masks))
    return Pruned(
        model=pruning.pruned,
        plan=chain,
        report=report,
        network=pruning.small,
        example_inputs=job.example_inputs,
        dense=job.dense,
        masks=pruning.masks,
    )


def _compare_with_foretold(job: Job, plan: Plan, pruning: Pruning, report: dict[str, Any]) -> None:
    """Say what the budget tried and expected, and what was lost."""
    if tried := plan.provenance.get("tried"):
        listed = "; ".join(f"{way}: {in_words(lost)}" for way, lost in tried.items())
        # The luckiest of many is not the best of them.
        by = " by all that was judged" if "candidates" in plan.provenance else ""
        pruning.notes.append(
            f"Tried on examples left out (divergence): {listed}. The least{by} was taken."
        )
    if (foretold := plan.provenance.get("expected_loss")) is not None:
        lost = _lost(job, pruning)
        if lost == inf:
            pruning.notes.append(
                "The pruned network computes NaN or infinity on the calibration: ask for less."
            )
        report["expected_loss"] = {**foretold, "lost": None if lost is None else rounded(lost)}
        unreached: Mapping[str, str] = foretold.get("unreached", {})
        for reason in dict.fromkeys(unreached.values()):
            names = [name for name, why in unreached.items() if why == reason]
            pruning.notes.append(
                f"Counted as average in the budget: {counted(len(names), 'weight')} "
                f"({first_of(names)}), because no gradient reaches the outputs: {reason}."
            )


def _moved(job: Job, plan: Plan) -> Job:
    """The job after the moves of a plan.

    Raises:
        PlanError: the network does not allow them, or their matrices are not here.
    """
    if plan.moves is None:
        return job
    try:
        return job.moved(plan.moves)
    except MovesError as error:
        raise PlanError(str(error)) from error


def _lost(job: Job, pruning: Pruning) -> float | None:
    """The divergence of the pruned module from the dense one on the calibration.

    Infinite where it computes NaN; None without calibration, or where outputs are no scores.
    """
    if not job.measured or pruning.pruned is None:
        return None
    with pruning.step("judge"):
        try:
            return Judge(job.model, job.batches)(pruning.pruned)
        except NoCurvatureError:
            return None


def _check_fields(plan: Plan, pattern: Pattern) -> None:
    """Refuse a plan that says what its pattern does not read: it would not open from its text.

    Raises:
        PlanError: it does.
    """
    idle = ("density", "rank") if pattern.prunes == "axes" else ("kept", "dropped")
    for name in idle:
        if getattr(plan, name):
            raise PlanError(
                f'pattern "{plan.pattern}" does not read "{name}" of its plan; delete the entry, '
                "or make it a plan of its own: once.then(twice)"
            )


def _hold(pruning: Pruning) -> None:
    """Cut from weights that are 0 outside of the masks of earlier prunings.

    They are not where somebody trained the module without its masks, or a metanetwork wrote.
    """
    values, back = {}, 0
    for name, mask in pruning.held.items():
        if name not in pruning.base.tensors:
            continue
        value = pruning.base.tensors[name].value
        outside = int((value.detach()[~mask.to(value.device)] != 0).sum())
        if outside:
            values[name], back = value.detach() * mask.to(value), back + outside
    if values:
        pruning.base = pruning.base.replace(values)
        pruning.notes.append(
            f"Set to 0 again: {counted(back, 'weight')} in {counted(len(values), 'tensor')}, "
            "outside of the masks of earlier prunings."
        )


def apply_plan(
    job: Job, plan: Plan, methods: Sequence[Sequence[Recovery]], folder: Path | None = None
) -> Pruned:
    """Carry out all steps of a plan, each on what the one before it gave; see `apply_step`.

    Args:
        job: what is pruned.
        plan: a chain.
        methods: of recovery, for every step.
        folder: for checkpoints; every step of several has one of its own inside.
    """
    found: Pruned | None = None
    for number, (step, own) in enumerate(zip(plan.steps, methods, strict=True), start=1):
        job = job if found is None else next_job(job, found)
        inside = folder
        if folder is not None and len(methods) > 1:
            inside = folder / f"training-{number:02d}"
        found = apply_step(job, step, own, inside)
    assert found is not None
    return found


def next_job(job: Job, found: Pruned) -> Job:
    """What a further pruning of a result starts from."""
    following = Job.of(found.model, job.example_inputs, job.calibration, ignore=job.ignore)
    return replace(following, data=job.data, notes=job.notes, first=job.teacher)


def recover(
    found: Pruned, job: Job, methods: Sequence[Recovery], folder: Path | None = None
) -> Pruned:
    """A result after more recovery methods of the stage "after"; its module is changed in place.

    Args:
        found: what was pruned from the job.
        job: of the last pruning.
        methods: in order.
        folder: for checkpoints.
    """
    pruning = _begun(job, found.plan.steps[-1], folder)
    pruning.small, pruning.pruned, pruning.masks = found.network, found.model, dict(found.masks)
    pruning.notes, pruning.seconds = list(found.report["notes"]), dict(found.report["seconds"])
    run(methods, "after", pruning)
    report = {**found.report, "notes": pruning.notes, "seconds": pruning.seconds}
    return replace(found, report=report)


def in_place(found: Pruned, model: nn.Module, repaired: Sequence[Repair]) -> Pruned:
    """The result in the very module that was pruned; see `graphs.build.inplace.put_in_place`.

    Args:
        found: what was made from the model.
        model: turned into the pruned one; its history is noted.
        repaired: attributes that were brought in line with new shapes, over all steps.
    """
    made = put_in_place(model, Rebuilt(found.model, tuple(repaired)))
    remember(made, History(found.dense, found.plan, found.masks))
    return replace(found, model=made)


def refuse_in_place(replacing: str | None, transformed: bool) -> None:
    """Refuse what cannot be done in the very module, before any work.

    Args:
        replacing: the pattern that puts other layers in the place of those of the model, if one.
        transformed: whether the network is transformed first.

    Raises:
        ValueError: either is so.
    """
    if replacing is not None:
        raise ValueError(
            f'pattern "{replacing}" puts other layers in the place of those of the model, so there '
            "is no pruning in place; leave inplace out"
        )
    if transformed:
        raise ValueError(
            "a transformed network is another one than the model, so there is no pruning in "
            "place; leave inplace or transform out"
        )


def repairs(found: Pruned) -> list[Repair]:
    """Attributes that the last step brought in line with the new shapes."""
    return [Repair(*repair) for repair in found.report["repaired"]]


def _begun(job: Job, plan: Plan, folder: Path | None) -> Pruning:
    """A pruning of a job before anything is done."""
    return Pruning(
        plan=plan,
        dense=job.net,
        base=job.net,
        teacher=job.teacher,
        example_inputs=job.example_inputs,
        batches=job.batches,
        data=job.data,
        folder=folder,
        notes=list(job.notes),
    )


def _transformed(job: Job, plan: Plan) -> Network:
    """The network with the weights that the plan's metanetwork gives it."""
    advisor = Advisor.of_plan(plan.provenance)
    assert advisor is not None
    return job.net.replace(advisor.advise(job.net, job.model, job.calibration).values)
