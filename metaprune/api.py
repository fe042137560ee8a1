"""What users call: prune, plan, apply.

They need gradients, whatever the caller switched off: `no_grad` and `inference_mode` end here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from graphs.calls.modes import own_modes
from metaprune.applying import apply_plan, in_place, refuse_in_place, repairs
from metaprune.calibration import Calibration
from metaprune.job import Job
from metaprune.patterns import parse
from metaprune.planning import (
    DEFAULT,
    check_choices,
    ignored,
    plan_job,
    recovery_for,
    recovery_methods,
    refuse_idle,
)
from metaprune.result import Result
from metaprune.results.pruned import Pruned
from metaprune.schedules.run import run_schedule
from metaprune.settings import Settings
from pruners import Plan, PlanError
from training import FinetuneConfig
from training.data.core import Data

Call = TypeVar("Call", bound=Callable[..., Any])


def takes_settings(*names: str) -> Callable[[Call], Call]:
    """Show the fields of `Settings` in the signature and the help of a function of `**settings`.

    Args:
        names: of the fields it takes; all when none are given.
    """

    def show(function: Call) -> Call:
        own = signature(function)
        *plain, rest = own.parameters.values()
        assert rest.kind is Parameter.VAR_KEYWORD
        options = [
            Parameter(e.name, Parameter.KEYWORD_ONLY, default=e.default, annotation=e.type)
            for e in fields(Settings)
            if not names or e.name in names
        ]
        shown = own.replace(parameters=[*plain, *options])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return show


@takes_settings()
@own_modes()
def prune(
    model: nn.Module | Pruned,
    example_inputs: Any,
    *,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    finetune: FinetuneConfig | Mapping[str, Any] | None = None,
    checkpoints: str | Path | None = None,
    inplace: bool = False,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    **settings: Any,
) -> Result:
    """Prune a model to a target; the model itself is left as it was, unless `inplace` asks for it.

        result = metaprune.prune(model, loader, target={"macs": "50%"})

    Inputs, labels and the loss are told from the signature of the forward and from what the loader
    gives; `result.report["notes"]` says how they were read.

    A model that was pruned before, or opened by `metaprune.load`, is pruned further: targets are
    shares of what it is now, the report compares with the dense network that it came from, and the
    plan is the chain of all steps.

    What to prune:

    Args:
        model: any module that `torch.export` accepts, or what an earlier pruning returned.
        example_inputs: tuple of arguments or dict of keywords for its forward; or data to take
            them from, which then calibrate too: a DataLoader, a data set, a tensor of examples,
            a tuple of inputs and labels, a list of batches (`metaprune.calibration`).

    What to measure and train on:

    Args:
        calibration: the same in the place of those, or a `Calibration`; with labels the
            metanetwork sees the gradients of one pass. Taken from the training split of `data`
            when None. A list is taken whole, of a loader and of data 512 examples.
        data: a data set with its task, for recovery methods that train.
        finetune: settings (`training.FinetuneConfig.parse`): the same as {"finetune": ...} at the
            end of `recovery`.

    How (`metaprune.Settings` says what each takes):

    Args:
        settings: `target`, `schedule`; `pattern`, `min_units`, `round_to`, `ignore`; `transform`;
            `metanet`, `budget`, `solver`; `recovery`.

    Where:

    Args:
        checkpoints: folder that keeps what a transformation found, plans, the steps of a schedule
            and of training, each as soon as it is there; a call with the same settings continues
            from it.
        inplace: turn `model` itself into the pruned one, as the last step of all, and free its
            dense weights (`graphs.build.inplace`). After an error it is as it was.
        device, dtype: of the work and of the result; a copy of the model is moved, and the inputs.
            None leaves the model where it is, and moves the inputs to its device.
        seed: of the examples that are chosen, and of the order in which a loader shuffles.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        TraceError: the model cannot be exported.
        ValueError: an unknown or mistyped setting, names that do not fit each other, a method that
            needs batches or data where there are none, or `inplace` where the class of the model
            cannot hold the pruned shapes, or for factors and transformations.
        FileNotFoundError: there is no such metanetwork.
    """
    _insist_on_flag(inplace)
    asked = Settings.of(**settings)
    asked = replace(asked, recovery=_with_finetuning(asked.recovery, finetune))
    if inplace and not (device is None and dtype is None):
        raise ValueError(
            "there is no pruning in place on another device or in another dtype: move the model "
            "itself, model.to(...), or leave inplace out"
        )
    check_choices(asked)
    at: dict[str, Any] = {"seed": seed, "device": device, "dtype": dtype}
    job = Job.of(model, example_inputs, calibration, data, ignore=ignored(asked), **at)
    methods = recovery_methods(job, asked)
    folder = None if checkpoints is None else Path(checkpoints)
    run = run_schedule(job, asked, methods, folder, inplace)
    found = run.pruned
    if inplace:
        found = in_place(found, job.given, run.repaired)
    return Result.of(found)


@takes_settings()
@own_modes()
def plan(
    model: nn.Module | Pruned,
    example_inputs: Any,
    *,
    calibration: Calibration | Iterable[Any] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    **settings: Any,
) -> Plan:
    """Decide what to prune, in one step; the model is left as it was.

    On the meta device, where weights have no values, `budget="uniform"` without a metanetwork keeps
    the first units of every axis, and the plan says so.

    Args:
        model, example_inputs, calibration, device, dtype, seed: see `metaprune.prune`.
        settings: see `metaprune.Settings`; `schedule` and `recovery` are noted in the plan.

    Returns:
        A plan for this very model; `once.then(twice)` makes a chain of plans.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        TraceError: the model cannot be exported.
        ValueError: an unknown or mistyped setting, or names that do not fit each other.
        FileNotFoundError: there is no such metanetwork.
    """
    asked = Settings.of(**settings)
    check_choices(asked)
    at: dict[str, Any] = {"seed": seed, "device": device, "dtype": dtype}
    return plan_job(Job.of(model, example_inputs, calibration, ignore=ignored(asked), **at), asked)


@own_modes()
def apply(
    model: nn.Module | Pruned,
    example_inputs: Any,
    plan: Plan,
    *,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    recovery: Iterable[str | Mapping[str, Any]] | None = None,
    finetune: FinetuneConfig | Mapping[str, Any] | None = None,
    checkpoints: str | Path | None = None,
    inplace: bool = False,
    seed: int = 0,
) -> Result:
    """Carry out a plan, a chain step by step; the model is left as it was, unless asked.

    Args:
        model: of the architecture that the plan was made for, the same checkpoint or another.
        example_inputs: see `metaprune.prune`.
        plan: from `plan`, `Result.plan` or `Plan.load`.
        calibration, data, finetune, checkpoints, inplace, seed: see `metaprune.prune`.
        recovery: see `metaprune.Settings`; each method at those steps of a chain that it serves.

    Raises:
        PlanError: the plan does not fit the model.
        ValueError: a recovery method that is unknown, does not fit, or lacks batches or data; or
            `inplace` where that cannot be.
    """
    _insist_on_flag(inplace)
    if not isinstance(plan, Plan):
        raise PlanError(
            f"a plan is needed (got {type(plan).__name__}); a file is read by metaprune.Plan.load"
        )
    if inplace:
        replaced = next((step.pattern for step in plan.steps if step.rank), None)
        refuse_in_place(replaced, any(step.moves is not None for step in plan.steps))
        if plan.before is not None:
            raise ValueError(
                "a chain of plans is not carried out in place; leave inplace out, or apply its "
                "steps one after the other"
            )
    if recovery is not None and not isinstance(recovery, str):
        recovery = tuple(recovery)
    asked = _with_finetuning(Settings.of(recovery=recovery).recovery, finetune)
    job = Job.of(model, example_inputs, calibration, data, seed=seed)
    patterns = [parse(step.pattern) for step in plan.steps]
    if asked is not None:
        refuse_idle(asked, [pattern.prunes for pattern in patterns])
    methods = [recovery_for(pattern, asked, job, strict=False) for pattern in patterns]
    found = apply_plan(job, plan, methods, None if checkpoints is None else Path(checkpoints))
    if inplace:
        found = in_place(found, job.given, repairs(found))
    return Result.of(found)


def _insist_on_flag(inplace: bool) -> None:
    """Refuse what only looks like a yes: the model would be changed for good.

    Raises:
        ValueError: it is neither True nor False.
    """
    if not isinstance(inplace, bool):
        raise ValueError(f"inplace takes true or false (got {inplace!r})")


def _with_finetuning(
    recovery: Sequence[str | Mapping[str, Any]] | None,
    finetune: FinetuneConfig | Mapping[str, Any] | None,
) -> Sequence[str | Mapping[str, Any]] | None:
    """The recovery methods, with finetuning at their end where it was asked for."""
    if finetune is None:
        return recovery
    if not isinstance(finetune, FinetuneConfig | Mapping):
        raise ValueError(
            f'finetune takes settings such as {{"epochs": 1}} or a FinetuneConfig '
            f"(got {finetune!r})"
        )
    if isinstance(finetune, FinetuneConfig):
        own = {name: value for name, value in vars(finetune).items() if name != "fit"}
        finetune = {**asdict(finetune.fit), **own}
    return (*((DEFAULT,) if recovery is None else recovery), {"finetune": dict(finetune)})
