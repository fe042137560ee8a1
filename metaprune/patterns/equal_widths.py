"""Pattern "equal-widths": channels, as many of them in every repeated block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metaprune.job import Job
from metaprune.patterns.axes import BASE, AxesPattern, eased_units, plan_units
from metaprune.patterns.base import pattern
from metaprune.patterns.ties import select_tied
from metaprune.settings import Settings
from pruners import Plan, budgets
from pruners.transformations import UnitRequest


@pattern("equal-widths")
@dataclass(frozen=True)
class EqualWidths(AxesPattern):
    """Channels and heads go, equally many in every repeated block; a unit is one step of a tie.

    One configuration then says the widths of all layers, so that a transformers model opens with
    plain `from_pretrained`. What its class cannot be built with is left alone.
    """

    name: ClassVar[str] = "equal-widths"
    forms: ClassVar[tuple[str, ...]] = ("equal-widths",)
    advised: ClassVar[bool] = True

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "Channels and heads go, equally many in every repeated block."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return budgets.rules_for("widths")

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "expected-loss" if measured else BASE

    def eased(self, job: Job, settings: Settings) -> UnitRequest:
        """See `metaprune.patterns.base.Pattern`."""
        return eased_units(job, settings, select_tied)

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        return plan_units(job, settings, select_tied)
