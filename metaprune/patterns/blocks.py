"""Pattern "blocks": whole residual branches go, those that the network misses least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from graphs import Network
from graphs.depth.drop import count_without
from metaprune.job import Job
from metaprune.patterns.axes import AxesPattern, target_of
from metaprune.patterns.base import pattern, provenance
from metaprune.settings import Settings
from pruners import Plan, Target, budgets, units
from pruners.curves import (
    FEWEST,
    Judge,
    branch_losses,
    damage_of,
    dropped_and_refitted,
    left_out,
    rounded,
)
from pruners.statistics import Imitation, NoCurvatureError
from pruners.targets import METRICS

IMITATION = "imitation"
"""The budget of blocks: how far the network without one is from the dense network."""

EXPECTED = "expected-loss"
"""The budget of blocks by what branches add and predictions care about, or by evaluation, whichever
loses less after a refit."""
WAY = "expected loss"


@pattern("blocks")
@dataclass(frozen=True)
class Blocks(AxesPattern):
    """Residual branches go whole; a unit is a branch."""

    name: ClassVar[str] = "blocks"
    forms: ClassVar[tuple[str, ...]] = ("blocks",)
    advised: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "Whole residual branches go; the network gets fewer layers."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return [EXPECTED, IMITATION]

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return EXPECTED

    def eased(self, job: Job, settings: Settings) -> None:
        """Nothing: see `metaprune.patterns.base.Pattern`."""

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        net, target = job.net, target_of(settings)
        if not job.measured:
            raise ValueError(
                f'pattern "{self.name}" measures what the network misses: pass `calibration` or '
                "`data`"
            )
        budget, options = budgets.named(settings.budget or self.default_budget(job.measured))
        if options:
            raise ValueError(f'budget "{budget}" of "{self.name}" reads no options; give its name')
        if budget == EXPECTED:
            drops, more = better(job, target)
        else:
            drops, more = units.choose_blocks(net, target, measured(job, job.batches)), {}
        divergence = dict(zip(drops.names, drops.damage, strict=True))
        return Plan(
            pattern=self.name,
            solver=settings.solver or "magnitude",
            budget=budget,
            asked=target.asked,
            dropped=drops.names,
            achieved=_achieved(net, count_without(net, drops.names)),
            provenance=provenance(job, settings, divergence=divergence, **more),
        )


def better(job: Job, target: Target) -> tuple[units.Drops, dict[str, Any]]:
    """Blocks by expected loss, or by evaluation: what loses less after a refit.

    Each way chooses on a part of the calibration, and is judged on examples that it did not see:
    the second order of a loss is right where little goes, evaluation where nothing is refitted.

    Returns:
        What the better one chooses on all of the calibration, and what a plan records of it.
    """
    net, model, ways = job.net, job.net.to_model(), {WAY: expected, "evaluation": measured}
    measuring, judging = left_out(job.batches)
    try:
        judge = Judge(model, judging)
        found = {
            way: units.choose_blocks(net, target, damage(job, measuring))
            for way, damage in ways.items()
        }
    except NoCurvatureError as error:
        drops = units.choose_blocks(net, target, measured(job, job.batches))
        return drops, {"no_expected_loss": f"by evaluation alone: {error}"}
    few = judge.predictions < FEWEST
    if few or len({frozenset(drops.names) for drops in found.values()}) == 1:
        way, more = "evaluation" if few else WAY, dict[str, Any]()
    else:
        lost = {
            way: damage_of(partial(dropped_and_refitted, net, model, drops.names, measuring), judge)
            for way, drops in found.items()
        }
        way = min(lost, key=lambda each: lost[each])
        more = {"tried": {each: rounded(value) for each, value in lost.items()}}
    return units.choose_blocks(net, target, ways[way](job, job.batches)), more


def measured(job: Job, batches: Sequence[Any]) -> units.Damage:
    """The divergence of the network without blocks, on these batches."""
    return units.imitated(job.net, Imitation(job.net.to_model(), batches).value)


def expected(job: Job, batches: Sequence[Any]) -> units.Damage:
    """What it is expected to be, to second order (`pruners.curves.branches`)."""
    return branch_losses(job.net, job.net.to_model(), batches).of


def _achieved(net: Network, small: Network) -> dict[str, float]:
    """Every metric of a network against that of the dense one."""
    return {
        name: metric.express(metric.count(small), metric.count(net))
        for name, metric in METRICS.items()
    }
