"""Patterns such as "sparse+low-rank" and "N:M+low-rank": a mask, and two thin layers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from graphs.build.search import Rebuilt
from metaprune.job import Job
from metaprune.patterns.base import Prunes, foretold, pattern
from metaprune.patterns.factors import ONCE, carry_out_factors, factored_weights, plan_of
from metaprune.settings import Settings
from pruners import Plan, budgets
from pruners.recovery.base import Pruning, Recovery
from pruners.solvers import solvers_for
from pruners.solvers.matrix import matrix_shape
from pruners.solvers.zeros import MaskPattern
from pruners.statistics import input_statistics

BESIDE, SPARSE = "+low-rank", "sparse"


@pattern("masks beside low rank")
@dataclass(frozen=True)
class MasksBesideLowRank:
    """A weight becomes S + U·V, S under a mask; its units are those of the mask, and ranks.

    Args:
        mask: where zeros of S may fall.
    """

    mask: MaskPattern

    forms: ClassVar[tuple[str, ...]] = ("sparse+low-rank", "N:M+low-rank", "row+low-rank")
    prunes: ClassVar[Prunes] = "weights"
    advised: ClassVar[bool] = False
    once: ClassVar[str | None] = ONCE
    replaces: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    @classmethod
    def read(cls, text: str) -> Self | None:
        """See `metaprune.patterns.base.Pattern`."""
        if not text.endswith(BESIDE):
            return None
        mask = text.removesuffix(BESIDE)
        try:
            found = MaskPattern.parse("unstructured" if mask == SPARSE else mask)
        except ValueError:
            return None
        return None if mask == "unstructured" else cls(found)

    @property
    def name(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return (SPARSE if self.mask.name == "unstructured" else self.mask.name) + BESIDE

    @property
    def chooses(self) -> bool:
        """N:M says how many weights stay; ranks then get a quarter of all numbers."""
        return not self.mask.m

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return f"A mask ({self.mask.name}), and two thin layers beside it."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return budgets.rules_beside(self.mask)

    def solvers(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return solvers_for(masks=True, factors=True)

    def default_budget(self, measured: bool) -> str:
        """Expected loss where it is measured; else uniform (Zhang & Papyan 2025, OATS)."""
        return "expected-loss" if measured and "expected-loss" in self.budgets() else "uniform"

    def default_solver(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "sparse+low-rank"

    def default_recovery(self) -> tuple[str, ...]:
        """See `metaprune.patterns.base.Pattern`."""
        return ("order", "recalibrate")

    def eased(self, job: Job, settings: Settings) -> None:
        """Nothing: see `metaprune.patterns.base.Pattern`."""

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        net, mask = job.net, self.mask
        rule, options = budgets.named(settings.budget or self.default_budget(job.measured))
        names = [n for n in factored_weights(job) if mask.refusal(*matrix_shape(net, n)) is None]
        if not names:
            raise ValueError(f"no weight has a shape that pattern {mask} divides")
        share = None if settings.wanted is None else settings.wanted.density(net, names)
        if job.batches:
            options = {**budgets.measured(rule, net, job.batches, names), **options}
            if rule in budgets.JOINT:
                found = input_statistics(net.to_model(), job.batches, names, ("norms",))
                options["norms"] = {name: each["norms"] for name, each in found.items()}
            if rule == "expected-loss":
                # Curves of the solver that finds the mask and the factors at every share.
                options.setdefault("solver", settings.solver)
        budget = budgets.allocate_beside(rule, net, share, mask, weights=names, **options)
        return plan_of(job, settings, names, budget.density, budget.rank, foretold(options))

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """See `metaprune.patterns.base.Pattern`."""
        return carry_out_factors(pruning, methods, self.mask)
