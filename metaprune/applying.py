"""From a network and a plan to a pruned network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs import Network, trace
from graphs.build.attributes import Repair
from graphs.build.inplace import put_in_place
from graphs.build.rebuild import rebuild
from graphs.build.search import Rebuilt
from graphs.calls.refusals import unwrapped
from metaprune.advice import Advisor
from metaprune.calibration import Calibration
from metaprune.patterns.low_rank import factor
from metaprune.patterns.solve import repairing, solved
from metaprune.results.accounting import summary
from metaprune.results.result import Result
from pruners import Plan, recovery
from pruners.plan import SHAPES, factors_of
from training import finetune as run_finetune
from training.data.core import Data
from training.recovery.finetune import FinetuneConfig

BIAS, REFIT = "bias", "refit"
COMPENSATION = REFIT
"""What makes up for removed units where nothing is said."""


@dataclass
class _Diary:
    """What happened, for the report: sentences and durations."""

    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


def apply(
    model: nn.Module,
    example_inputs: Any,
    plan: Plan,
    *,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    finetune: FinetuneConfig | Mapping[str, Any] | None = None,
    compensate: bool | str = True,
    repair: bool | str = True,
    recalibrate: bool = True,
    inplace: bool = False,
) -> Result:
    """Carry out a plan; the model is left as it was, unless asked.

    Weights are transformed by the plan's metanetwork if it has one, units are removed and what they
    contributed on average is folded into biases, or weights are masked; batch norms are
    recalibrated; and the result is finetuned if asked.

    Args:
        model: of the architecture that the plan was made for, the same checkpoint or another.
        example_inputs: tuple of arguments or dict of keywords for its forward.
        plan: from `plan`, or `Plan.load`.
        calibration: batches of model inputs, or a `Calibration`; taken from `data` when None.
        data: for finetuning; its training split calibrates.
        finetune: settings (`training.recovery.finetune.FinetuneConfig.parse`); None does not
            finetune.
        compensate: what makes up for removed units, where there are batches: "bias" folds their
            mean into biases; "refit" also fits every layer behind them, in order, to the outputs of
            the dense one, and leaves batch norms as they then are; True for "refit", False for
            nothing.
        repair: how masks and factors are found, where there are batches: "layer" fits every weight
            to the outputs of its own layer on dense inputs; "order" prunes layer after layer, each
            for the outputs of the dense one from the inputs that the pruned ones before it give,
            and leaves batch norms as they then are; True for "order", False for neither.
        recalibrate: re-estimate the statistics of batch norms, where there are batches.
        inplace: turn `model` itself into the pruned one, as the last step of all, and free its
            dense weights (`graphs.build.inplace`). After an error it is as it was.

    Raises:
        PlanError: the plan does not fit the model.
        ValueError: finetuning without data, an unknown compensation or repair, or `inplace` where
            the class of the model cannot hold the pruned shapes, or for factors.
    """
    settings = checked_finetune(finetune, data)
    if inplace and factors_of(plan.pattern):
        raise ValueError(
            f'pattern "{plan.pattern}" puts other layers in the place of those of the model, so '
            "there is no pruning in place; leave inplace out"
        )
    model = unwrapped(model)
    result = apply_network(
        trace(model, example_inputs),
        model,
        plan,
        example_inputs=example_inputs,
        calibration=Calibration.choose(calibration, data),
        compensate=compensate,
        repair=repair,
        recalibrate=recalibrate,
    )
    if settings is not None and data is not None:
        result = finetuned(result, data, settings, teacher=model)
    return in_place(result, model) if inplace else result


def in_place(result: Result, model: nn.Module) -> Result:
    """The result in the very module that was pruned; see `graphs.build.inplace.put_in_place`."""
    repaired = tuple(Repair(*repair) for repair in result.report["repaired"])
    return replace(result, model=put_in_place(model, Rebuilt(result.model, repaired)))


def checked_finetune(
    config: FinetuneConfig | Mapping[str, Any] | None, data: Data | None
) -> FinetuneConfig | None:
    """Settings of finetuning, checked before any work; None for none.

    Raises:
        ValueError: an unknown setting, or no data.
    """
    if config is None:
        return None
    if data is None:
        raise ValueError("finetuning needs data: pass `data` (training.data.load(...))")
    return config if isinstance(config, FinetuneConfig) else FinetuneConfig.parse(config)


def apply_network(
    net: Network,
    model: nn.Module,
    plan: Plan,
    *,
    example_inputs: Any,
    calibration: Calibration | None,
    compensate: bool | str = True,
    repair: bool | str = True,
    recalibrate: bool = True,
) -> Result:
    """`apply` for a model that has been traced."""
    plan.check(net)
    how, how_repaired = _compensation(compensate), repairing(repair)
    diary = _Diary()
    masks: dict[str, torch.Tensor] = {}
    settled = False
    batches = calibration.model_inputs if calibration else []
    if factors_of(plan.pattern):
        return _factored(net, plan, example_inputs, batches, how_repaired, recalibrate, diary)
    with diary.step("metanetwork"):
        dense = _transformed(net, model, plan, calibration)
    with diary.step("prune"):
        if plan.pattern in SHAPES:
            small = _removed(dense, plan, batches if how else [], how, diary)
        else:
            small, masks, settled = _masked(dense, plan, batches, how_repaired, diary)
        rebuilt = rebuild(small)
        pruned = rebuilt.model
        diary.notes += rebuilt.notes
    if how == REFIT and plan.pattern in SHAPES and batches:
        with diary.step("refit"):
            small = _refitted(dense, small, pruned, plan, batches, diary)
        settled = True
    # After a refit the outputs are those that the norms' own statistics describe.
    if recalibrate and batches and not settled:
        with diary.step("recalibrate"):
            diary.notes.append(recovery.recalibrate_batch_norm(pruned, batches).status)
    report = summary(net, small, pruned, plan, diary.notes, diary.seconds)
    report["repaired"] = [list(repair) for repair in rebuilt.repaired]
    report["varied"] = {name: dict(values) for name, values in rebuilt.varied.items()}
    return Result(pruned, plan, report, small, example_inputs, masks)


def _factored(
    net: Network,
    plan: Plan,
    example_inputs: Any,
    batches: list[Any],
    repair: str | None,
    recalibrate: bool,
    diary: _Diary,
) -> Result:
    """A plan of factors, carried out."""
    with diary.step("prune"):
        found = factor(net, plan, batches, example_inputs, repair)
        diary.notes += found.notes
    if recalibrate and batches and not found.settled:
        with diary.step("recalibrate"):
            diary.notes.append(recovery.recalibrate_batch_norm(found.model, batches).status)
    small = trace(found.model, example_inputs)
    report = summary(net, small, found.model, found.plan, diary.notes, diary.seconds)
    return Result(found.model, found.plan, report, small, example_inputs, found.masks)


def finetuned(
    result: Result,
    data: Data,
    config: FinetuneConfig | Mapping[str, Any],
    teacher: nn.Module | None = None,
    folder: str | Path | None = None,
) -> Result:
    """The result after finetuning its model in place; masks are kept.

    Args:
        result: its model is changed.
        data: train and validation splits are used.
        config: settings (`training.recovery.finetune.FinetuneConfig.parse`).
        teacher: the dense model, to learn from beside the labels.
        folder: for checkpoints; a run whose folder holds one continues from it.
    """
    started = time.perf_counter()
    run = run_finetune(
        result.model, data, config, masks=result.masks, teacher=teacher, folder=folder
    )
    seconds = round(time.perf_counter() - started, 4)
    figure = run.best[data.task.score]
    note = f"Finetuned for {run.steps} steps; {data.task.score} {figure:.4g} on validation."
    report = {
        **result.report,
        "notes": [*result.report["notes"], note],
        "seconds": {**result.report["seconds"], "finetune": seconds},
    }
    return replace(result, report=report)


def _transformed(
    net: Network, model: nn.Module, plan: Plan, calibration: Calibration | None
) -> Network:
    """The network with the weights that the plan's metanetwork gives it."""
    advisor = Advisor.of_plan(plan.provenance)
    return net if advisor is None else net.replace(advisor.advise(net, model, calibration).values)


def _removed(
    net: Network, plan: Plan, batches: list[Any], how: str | None, diary: _Diary
) -> Network:
    """The network without the units that go, their mean contribution folded into biases."""
    if batches and plan.kept:
        dense, model, kept = net, net.to_model(), plan.keeps(net)
        means = recovery.input_means(net, model, batches)
        compensation = recovery.compensate_bias(net, kept, means)
        net = net.replace(compensation.values)
        if compensation.values:
            diary.notes.append(f"Biases compensated for removed units: {len(compensation.values)}.")
        # A refit has its own account of what it could not do.
        left = compensation.uncompensated if how == BIAS else {}
        for reason, count in Counter(left.values()).items():
            diary.notes.append(f"Weights without compensation: {count} ({reason}).")
        scales = recovery.compensate_norms(dense, model, kept, batches)
        net = net.replace(scales)
        if scales:
            diary.notes.append(f"Norms scaled by the energy that stays: {len(scales)}.")
    if plan.dropped:
        diary.notes.append(f"Blocks dropped: {', '.join(plan.dropped)}.")
    return plan.carry_out(net)


def _refitted(
    net: Network,
    small: Network,
    pruned: nn.Module,
    plan: Plan,
    batches: list[Any],
    diary: _Diary,
) -> Network:
    """The small network, and its module, with weights fitted to the outputs of dense layers."""
    found = recovery.refit_in_order(net, net.to_model(), small, pruned, plan.keeps(net), batches)
    pruned.load_state_dict(found.values, strict=False)
    diary.notes.append(found.status)
    return small.replace(found.values)


def _compensation(asked: bool | str) -> str | None:
    """Which compensation is meant.

    Raises:
        ValueError: there is no such compensation.
    """
    if isinstance(asked, bool):
        return COMPENSATION if asked else None
    if asked not in (BIAS, REFIT):
        raise ValueError(
            f'unknown compensation "{asked}": expected "{BIAS}", "{REFIT}", true or false'
        )
    return asked


def _masked(
    net: Network, plan: Plan, batches: list[Any], repair: str | None, diary: _Diary
) -> tuple[Network, dict[str, torch.Tensor], bool]:
    """The network with zeros where the plan's budgets and solver put them, the masks, settled."""
    found = solved(net, plan, batches, repair)
    masks = {name: solution.mask for name, solution in found.solutions.items()}
    kept = sum(int(mask.sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    diary.notes.append(f"{kept:,} of {total:,} weights in {len(masks)} tensors stay.")
    diary.notes += found.notes
    return net.replace(found.values), masks, found.settled
