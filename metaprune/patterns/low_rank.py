"""Pattern "low-rank": two thin layers take the place of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from graphs.build.search import Rebuilt
from metaprune.job import Job
from metaprune.patterns.axes import target_of
from metaprune.patterns.base import Prunes, foretold, pattern
from metaprune.patterns.factors import ONCE, carry_out_factors, factored_weights, plan_of
from metaprune.settings import Settings
from pruners import Plan, PlanError, budgets
from pruners.recovery.base import Pruning, Recovery
from pruners.solvers import solvers_for
from pruners.statistics import both_sides


@pattern("low-rank")
@dataclass(frozen=True)
class LowRank:
    """A weight (m, n) becomes U (m, r) · V (r, n); a unit is one rank of one weight."""

    name: ClassVar[str] = "low-rank"
    forms: ClassVar[tuple[str, ...]] = ("low-rank",)
    prunes: ClassVar[Prunes] = "weights"
    advised: ClassVar[bool] = False
    once: ClassVar[str | None] = ONCE
    replaces: ClassVar[bool] = True
    bounded: ClassVar[bool] = False
    chooses: ClassVar[bool] = True

    @classmethod
    def read(cls, text: str) -> Self | None:
        """See `metaprune.patterns.base.Pattern`."""
        return cls() if text == cls.name else None

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "Two thin layers take the place of one."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return budgets.rules_for("ranks")

    def solvers(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return solvers_for(masks=False, factors=True)

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "expected-loss" if measured else "global"

    def default_solver(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "low-rank"

    def default_recovery(self) -> tuple[str, ...]:
        """See `metaprune.patterns.base.Pattern`."""
        return ("order", "recalibrate")

    def eased(self, job: Job, settings: Settings) -> None:
        """Nothing: see `metaprune.patterns.base.Pattern`."""

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        net, names, target = job.net, factored_weights(job), target_of(settings)
        rule, options = budgets.named(settings.budget or self.default_budget(job.measured))
        # Out of reach is said before anything is measured.
        budgets.rank_limits(net, names, target)
        statistics = None
        if job.batches:
            statistics = both_sides(net.to_model(), job.batches, names)
            options = {**budgets.measured(rule, net, job.batches, names, "ranks"), **options}
        rank = budgets.allocate_ranks(rule, net, names, target, statistics=statistics, **options)
        return plan_of(job, settings, names, {}, rank, foretold(options))

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """See `metaprune.patterns.base.Pattern`."""
        if pruning.plan.density:
            raise PlanError(
                'pattern "low-rank" does not read "density" of its plan; delete the entry, or name '
                'the pattern "sparse+low-rank"'
            )
        return carry_out_factors(pruning, methods, None)
