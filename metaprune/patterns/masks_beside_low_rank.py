"""Patterns "sparse+low-rank" and "N:M+low-rank": a mask, and two thin layers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from graphs import Network
from graphs.build.search import Rebuilt
from metaprune.job import Job
from metaprune.patterns.base import Prunes, pattern
from metaprune.patterns.factors import ONCE, carry_out_factors, factored_weights, plan_of
from metaprune.patterns.weights import solvers_for
from metaprune.settings import Settings
from pruners import Plan, Target, budgets
from pruners.budgets.rules.ranks import MEASURING
from pruners.recovery.base import Pruning, Recovery
from pruners.sides import matrix_shape
from pruners.solvers.algorithms.low_rank import rank_for
from pruners.solvers.algorithms.sparse_low_rank import RANK_SHARE
from pruners.solvers.zeros import Pattern as MaskPattern
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

    forms: ClassVar[tuple[str, ...]] = ("sparse+low-rank", "N:M+low-rank")
    prunes: ClassVar[Prunes] = "weights"
    advised: ClassVar[bool] = False
    once: ClassVar[str | None] = ONCE

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
        return cls(found) if found.m or mask == SPARSE else None

    @property
    def name(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return (self.mask.name if self.mask.m else SPARSE) + BESIDE

    @property
    def chooses(self) -> bool:
        """N:M says how many weights stay; ranks then get a quarter of all numbers."""
        return not self.mask.m

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return f"A mask ({self.mask.name}), and two thin layers beside it."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return ["uniform"] if self.mask.m else list(budgets.ALLOCATORS)

    def solvers(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return solvers_for(masks=True, factors=True)

    def default_budget(self, measured: bool) -> str:
        """Uniform, as it is published (Zhang & Papyan 2025, OATS)."""
        return "uniform"

    def default_solver(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return "sparse+low-rank"

    def default_recovery(self) -> tuple[str, ...]:
        """See `metaprune.patterns.base.Pattern`."""
        return ("order", "recalibrate")

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        names = factored_weights(job)
        rule, options = budgets.named(settings.budget or self.default_budget(job.measured))
        density, rank = _composite(
            job.net, names, settings.wanted, self.mask, rule, options, job.batches
        )
        return plan_of(job, settings, names, density, rank)

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """See `metaprune.patterns.base.Pattern`."""
        return carry_out_factors(pruning, methods, self.mask)


def _composite(
    net: Network,
    names: list[str],
    target: Target | None,
    mask: MaskPattern,
    rule: str,
    options: Mapping[str, Any],
    batches: list[Any],
) -> tuple[dict[str, float], dict[str, int]]:
    """Kept shares and ranks of masks beside low rank."""
    names = [n for n in names if mask.refusal(matrix_shape(net, n)[1]) is None]
    if not names:
        raise ValueError(f"no weight has a number of inputs that pattern {mask} divides")
    total = None if target is None else target.density(net, names)
    if mask.m:
        share = mask.n / mask.m
        total = share / (1 - RANK_SHARE) if total is None else total
        if total < share - 1e-9:
            raise ValueError(
                f"pattern {mask} alone keeps {share:.4g} of the weights, more than {target} "
                "allows; leave the target out or choose another pattern"
            )
        shares = dict.fromkeys(names, share)
        return shares, _beside(net, dict.fromkeys(names, total - share))
    if total is None:
        raise ValueError('say what to reach, for instance target={"sparsity": 0.5}')
    evidence = budgets.measured(rule, net, batches, names)
    if rule in MEASURING:
        if "loss" not in evidence:
            raise ValueError(
                f'budget "{rule}" is measured on calibration data; provide calibration batches or '
                "choose a rule that reads the weights alone"
            )
        norms = input_statistics(net.to_model(), batches, names, ("norms",))
        given = {"method": "price" if rule == "price" else "evolution", **options}
        found = budgets.allocate_composite(
            net,
            total,
            loss=evidence["loss"],
            weights=names,
            norms={name: each["norms"] for name, each in norms.items()},
            **given,
        )
        return dict(found.density), dict(found.rank)
    shares = budgets.allocate(rule, net, total, weights=names, **{**evidence, **options})
    rank = _beside(net, {name: RANK_SHARE * share for name, share in shares.items()})
    density = {}
    for name, share in shares.items():
        rows, columns = matrix_shape(net, name)
        density[name] = max(0.0, share - rank.get(name, 0) * (rows + columns) / (rows * columns))
    return density, rank


def _beside(net: Network, shares: Mapping[str, float]) -> dict[str, int]:
    """The largest ranks that store no more than these shares; those of none left out."""
    found = {name: rank_for(share, *matrix_shape(net, name)) for name, share in shares.items()}
    return {name: rank for name, rank in found.items() if rank}
