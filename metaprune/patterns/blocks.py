"""Pattern "blocks": whole residual branches go, those that the network misses least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphs import Network
from graphs.depth.drop import count_without
from metaprune.job import Job
from metaprune.patterns.axes import AxesPattern, target_of
from metaprune.patterns.base import pattern, provenance
from metaprune.settings import Settings
from pruners import Plan, budgets, units
from pruners.curves import branch_losses
from pruners.statistics import Imitation
from pruners.targets import METRICS

IMITATION = "imitation"
"""The budget of blocks: how far the network without one is from the dense network."""

EXPECTED = "expected-loss"
"""The budget of blocks that evaluates none: what a branch adds, by what it does to predictions."""


@pattern("blocks")
@dataclass(frozen=True)
class Blocks(AxesPattern):
    """Residual branches go whole; a unit is a branch."""

    name: ClassVar[str] = "blocks"
    forms: ClassVar[tuple[str, ...]] = ("blocks",)
    advised: ClassVar[bool] = False

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "Whole residual branches go; the network gets fewer layers."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return [IMITATION, EXPECTED]

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return IMITATION

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
        damage = expected(job) if budget == EXPECTED else measured(job)
        drops = units.choose_blocks(net, target, damage)
        divergence = dict(zip(drops.names, drops.damage, strict=True))
        return Plan(
            pattern=self.name,
            solver=settings.solver or "magnitude",
            budget=budget,
            asked=target.asked,
            dropped=drops.names,
            achieved=_achieved(net, count_without(net, drops.names)),
            provenance=provenance(job, settings, divergence=divergence),
        )


def measured(job: Job) -> units.Damage:
    """The divergence of the network without blocks, on the calibration."""
    return units.imitated(job.net, Imitation(job.net.to_model(), job.batches).value)


def expected(job: Job) -> units.Damage:
    """What it is expected to be, to second order (`pruners.curves.branches`)."""
    return branch_losses(job.net, job.net.to_model(), job.batches).of


def _achieved(net: Network, small: Network) -> dict[str, float]:
    """Every metric of a network against that of the dense one."""
    return {
        name: metric.express(metric.count(small), metric.count(net))
        for name, metric in METRICS.items()
    }
