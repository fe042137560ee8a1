"""What all patterns share that cut axes: units or branches go, and shapes get smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch

from graphs.build.rebuild import rebuild
from graphs.build.search import Rebuilt
from metaprune.advice import Advisor
from metaprune.job import Job
from metaprune.patterns.base import Prunes, advise, foretold, provenance
from metaprune.patterns.meta_device import FIRST_UNITS, equal_scores, without_values
from metaprune.settings import WITHOUT_TARGET, Settings
from pruners import Plan, Target, budgets, measure, units
from pruners.budgets.rules.expected_loss.trials import Foresee
from pruners.curves import AxisCurve, ExpectedLoss, Value, facts_of
from pruners.recovery.base import Pruning, Recovery
from pruners.targets import SPARED
from pruners.transformations import Request, UnitRequest
from training.values import LearnedValue

Cut = Callable[..., "dict[str, torch.Tensor]"]
BASE = "global"
"""Budget of channels that metanetworks correct."""


class AxesPattern:
    """A pattern that is one word and cuts axes; `budgets`, `describe` and `plan` are its own."""

    name: ClassVar[str]
    prunes: ClassVar[Prunes] = "axes"
    once: ClassVar[str | None] = None
    replaces: ClassVar[bool] = False
    bounded: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    @classmethod
    def read(cls, text: str) -> Self | None:
        """See `metaprune.patterns.base.Pattern`."""
        return cls() if text == cls.name else None

    def solvers(self) -> list[str]:
        """What goes, goes whole: there is nothing to solve for."""
        return ["magnitude"]

    def default_solver(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "magnitude"

    def default_recovery(self) -> tuple[str, ...]:
        """See `metaprune.patterns.base.Pattern`."""
        return ("bias", "refit")

    def eased(self, job: Job, settings: Settings) -> Request | None:
        """Nothing: see `metaprune.patterns.base.Pattern`."""
        return None

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """Remove what the plan removes; masks of earlier prunings are cut along."""
        plan, net = pruning.plan, pruning.base
        if plan.dropped:
            pruning.notes.append(f"Blocks dropped: {', '.join(plan.dropped)}.")
        pruning.small = plan.carry_out(net)
        rebuilt = rebuild(pruning.small)
        pruning.pruned = rebuilt.model
        if held := {name: mask for name, mask in pruning.held.items() if name in net.tensors}:
            values = {n: mask.to(net.tensors[n].value.dtype) for n, mask in held.items()}
            left = plan.carry_out(net.replace(values))
            pruning.masks = {
                name: tensor.value != 0
                for name, tensor in left.tensors.items()
                if left.source.moved.get(name, name) in held
            }
        return rebuilt


def target_of(settings: Settings) -> Target:
    """What is to be reached.

    Raises:
        ValueError: nothing was asked.
    """
    if settings.wanted is None:
        raise ValueError(WITHOUT_TARGET)
    return settings.wanted


def eased_units(job: Job, settings: Settings, cut: Cut) -> UnitRequest:
    """What a transformation is asked that makes units of axes go more easily.

    Args:
        job, settings, cut: see `plan_units`.

    Raises:
        ValueError: no target.
    """
    amounts = target_of(settings).in_amounts(job.net)
    bounds = settings.min_units, settings.round_to
    return UnitRequest(job.net, job.model, job.batches, amounts, *bounds, cut)


def plan_units(job: Job, settings: Settings, cut: Cut) -> Plan:
    """A plan that keeps units of axes.

    Args:
        job: what is pruned.
        settings: without anything left to a default.
        cut: makes the selection; see `pruners.units.select`.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        ValueError: no target.
    """
    net, target = job.net, target_of(settings)
    target.check(net)
    rule, options = budgets.named(settings.budget or BASE)
    foresee, entry = foreseeing(job, settings, target)
    advice = None
    if foresee is None:
        advice, entry = advise(job, settings, target.share(net))
    valueless = without_values(net) is not None
    scores = equal_scores(net) if valueless else units.base_scores(net, advice and advice.values)
    if foresee is None and (rule == "metanet" or options.get("start") == "metanet"):
        if advice is None:
            raise ValueError('a start from "metanet" needs a metanetwork: metanet="default"')
        options = {key: value for key, value in options.items() if key != "start"}
        scores = units.corrected(scores, advice.corrections())
    scores = {axis: s for axis, s in scores.items() if net.axes[axis].kind not in SPARED}
    dense = net if advice is None else net.replace(advice.values)
    divided = rule
    if rule == "metanet":
        divided = BASE if foresee is None else "expected-loss"
    if foresee is not None:
        options = {**options, "foresee": foresee}
    if job.measured:
        options = {**budgets.measured(divided, dense, job.batches, divides="widths"), **options}
    kept = budgets.allocate_widths(
        divided,
        dense,
        scores,
        target,
        min_units=settings.min_units,
        round_to=settings.round_to,
        cut=cut,
        **options,
    )
    more: dict[str, Any] = {"units": FIRST_UNITS} if valueless else {}
    return Plan(
        pattern=settings.pattern,
        solver=settings.solver or "magnitude",
        budget=rule,
        asked=target.asked,
        achieved=measure(net, {axis: len(index) for axis, index in kept.items()}),
        kept=Plan.keeping(net, kept),
        provenance=provenance(job, settings, **entry, **more, **foretold(options)),
    )


def foreseeing(
    job: Job, settings: Settings, target: Target
) -> tuple[Foresee | None, dict[str, Any]]:
    """What a metanetwork foresees of budgets, and what a plan records of it; None if it advises.

    Raises:
        ValueError: one that foresees, without calibration or for another budget.
    """
    if settings.metanet is None:
        return None, {}
    advisor = Advisor.hire(settings.metanet, target.share(job.net), job.calibration)
    network = advisor.foresight()
    if network is None:
        return None, {}
    if not job.measured:
        raise ValueError(
            f"the metanetwork {settings.metanet!r} foresees what budgets do from expected losses, "
            "which need calibration: pass `calibration` or `data`, or leave metanet out"
        )
    rule, _ = budgets.named(settings.budget or "metanet")
    if rule != "metanet":
        raise ValueError(
            f"the metanetwork {settings.metanet!r} foresees what budgets do, and "
            f'budget="{rule}" does not ask it; leave budget out, or leave metanet out'
        )

    def foresee(
        expected: ExpectedLoss,
        curves: Mapping[str, AxisCurve],
        dials: Sequence[str],
        sizes: Sequence[int],
        target: Target,
    ) -> Value:
        share = target.share(expected.net)
        facts = facts_of(expected.net, expected.sides, curves)
        known = {axis: one.curve for axis, one in curves.items()}
        return LearnedValue(network, facts, known, dials, sizes, share)

    return foresee, {"value": {"reference": advisor.reference, "digest": advisor.digest}}
