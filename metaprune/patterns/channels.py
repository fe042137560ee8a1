"""Pattern "channels": units of axes go, so that shapes get smaller and everything faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metaprune.job import Job
from metaprune.patterns.axes import BASE, AxesPattern, eased_units, plan_units
from metaprune.patterns.base import pattern
from metaprune.settings import Settings
from pruners import Plan, budgets, units
from pruners.transformations import UnitRequest


@pattern("channels")
@dataclass(frozen=True)
class Channels(AxesPattern):
    """Channels, heads and experts go; a unit is one of them, or `round_to` of them."""

    name: ClassVar[str] = "channels"
    forms: ClassVar[tuple[str, ...]] = ("channels",)
    advised: ClassVar[bool] = True

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "Channels, heads and experts go; shapes get smaller."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return budgets.rules_for("widths")

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "expected-loss" if measured else BASE

    def eased(self, job: Job, settings: Settings) -> UnitRequest:
        """See `metaprune.patterns.base.Pattern`."""
        return eased_units(job, settings, units.select)

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        return plan_units(job, settings, units.select)
