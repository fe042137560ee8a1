"""Patterns of masks: weights become 0, anywhere or in rows, columns, blocks or groups of M."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from graphs import Network
from graphs.build.rebuild import rebuild
from graphs.build.search import Rebuilt
from graphs.tools.words import counted
from metaprune.job import Job
from metaprune.patterns.base import Prunes, advise, foretold, pattern, provenance
from metaprune.patterns.weights import held_masks, solve
from metaprune.settings import Settings
from pruners import Plan, PlanError, Target, UnreachableTargetError, budgets
from pruners.recovery.base import Pruning, Recovery
from pruners.solvers import DEFAULT, WITHOUT_CALIBRATION, solvers_for
from pruners.solvers.zeros import MaskPattern
from pruners.targets import MetAlreadyError
from pruners.transformations import MaskRequest

BASE = "lamp"
"""Budget of masks that metanetworks correct."""


@pattern("masks")
@dataclass(frozen=True)
class Masks:
    """Weights become 0 where the mask pattern allows it; its unit is that of the mask pattern.

    Args:
        mask: where zeros may fall.
    """

    mask: MaskPattern

    forms: ClassVar[tuple[str, ...]] = (
        "unstructured",
        "row",
        "column",
        "column:C",
        "block:RxC",
        "N:M",
    )
    prunes: ClassVar[Prunes] = "weights"
    advised: ClassVar[bool] = True
    once: ClassVar[str | None] = None
    replaces: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    @classmethod
    def read(cls, text: str) -> Self | None:
        """See `metaprune.patterns.base.Pattern`."""
        try:
            return cls(MaskPattern.parse(text))
        except ValueError:
            return None

    @property
    def name(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return self.mask.name

    @property
    def chooses(self) -> bool:
        """N:M says how many weights stay; all others ask."""
        return not self.mask.m

    def describe(self) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return f"Weights become 0 ({self.name}); shapes stay."

    def budgets(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return budgets.rules_for("masks")

    def solvers(self) -> list[str]:
        """See `metaprune.patterns.base.Pattern`."""
        return solvers_for(masks=True, factors=False)

    def default_budget(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        if self.mask.m:
            return "uniform"
        return "expected-loss" if measured else "erk"

    def default_solver(self, measured: bool) -> str:
        """See `metaprune.patterns.base.Pattern`."""
        return DEFAULT if measured else WITHOUT_CALIBRATION

    def default_recovery(self) -> tuple[str, ...]:
        """See `metaprune.patterns.base.Pattern`."""
        return ("order", "recalibrate")

    def eased(self, job: Job, settings: Settings) -> MaskRequest:
        """See `metaprune.patterns.base.Pattern`."""
        _, share = masked_weights(job.net, self.mask, settings.wanted)
        solver = settings.solver or self.default_solver(job.measured)
        return MaskRequest(job.net, job.model, job.batches, self.mask, share, solver)

    def plan(self, job: Job, settings: Settings) -> Plan:
        """See `metaprune.patterns.base.Pattern`."""
        names, share = masked_weights(job.net, self.mask, settings.wanted)
        advice, entry = advise(job, settings, share)
        net = job.net if advice is None else job.net.replace(advice.values)
        rule, options = budgets.named(settings.budget or self.default_budget(job.measured))
        solver = settings.solver or self.default_solver(job.measured)
        logits = None if advice is None else advice.tensor_logits
        upper = {} if self.mask.m else held_shares(job, names, share)
        options = evidence(net, names, self.mask, rule, options, solver, job.batches)
        density = divided(net, names, share, self.mask, rule, options, logits, upper)
        return Plan(
            pattern=self.name,
            solver=solver,
            budget=rule,
            asked={} if settings.wanted is None else settings.wanted.asked,
            achieved={"sparsity": 1 - kept_share(net, density)},
            density=density,
            provenance=provenance(job, settings, **entry, **foretold(options)),
        )

    def carry_out(self, pruning: Pruning, methods: Sequence[Recovery]) -> Rebuilt:
        """See `metaprune.patterns.base.Pattern`."""
        if pruning.plan.rank:
            raise PlanError(
                f'pattern "{self.name}" does not read "rank" of its plan; delete the entry, or '
                f'name the pattern "{self.name}+low-rank"'
            )
        solve(pruning, methods, self.mask)
        masks = {name: found.mask for name, found in pruning.solutions.items()}
        pruning.masks = {**held_masks(pruning), **masks}
        kept = sum(int(mask.sum()) for mask in masks.values())
        total = sum(mask.numel() for mask in masks.values())
        first = [f"{kept:,} of {total:,} weights in {counted(len(masks), 'tensor')} stay."]
        reasons = budgets.maskable(pruning.base, self.mask).values()
        for reason, count in Counter(r for r in reasons if r is not None).items():
            first.append(f"Weights left dense: {count} ({reason}).")
        pruning.notes[:0] = first
        pruning.small = pruning.base.replace(pruning.values)
        rebuilt = rebuild(pruning.small)
        pruning.pruned = rebuilt.model
        return rebuilt


def evidence(
    net: Network,
    names: Sequence[str],
    mask: MaskPattern,
    rule: str,
    options: Mapping[str, Any],
    solver: str,
    batches: Sequence[Any],
) -> dict[str, Any]:
    """The options of a rule, and what it reads of the calibration.

    Args:
        net: the network, with transformed weights if there are any.
        names: of the weights that take a mask.
        mask: where zeros may fall.
        rule, options: "metanet" or a rule of `pruners.budgets`, and its options.
        solver: that will prune, with a repair; the rules "price" and "expected-loss" are told,
            because budgets that suit bare magnitude masks do not suit refitted weights.
        batches: for rules that measure.
    """
    if not batches or rule == "metanet" or (mask.m and rule == "uniform"):
        return dict(options)
    given = {**budgets.measured(rule, net, batches, names), **options}
    if rule == "price":
        given.setdefault("solve", budgets.solving(net, batches, names, solver, mask.name))
    if rule == "expected-loss":
        given.setdefault("solver", solver)
    return given


def divided(
    net: Network,
    names: Sequence[str],
    share: float,
    mask: MaskPattern,
    rule: str,
    options: Mapping[str, Any],
    logits: Mapping[str, torch.Tensor] | None = None,
    upper: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Kept share of every weight; for N:M whole numbers of M, all N unless a rule mixes them.

    Args:
        net, names, mask: see `evidence`.
        share: of the weights that stays.
        rule, options: "metanet" or a rule of `pruners.budgets`, and what `evidence` gave for it.
        logits: corrections of a metanetwork by tensor name, for the rule "metanet", or the option
            start="metanet".
        upper: largest kept share of a weight, by name: what earlier masks left of it.

    Raises:
        ValueError: a start from a metanetwork without one, or what the rule refuses.
    """
    given = dict(options)
    if mask.m and rule in ("metanet", "uniform"):
        if given:
            raise ValueError(
                f'budget "{rule}" keeps {mask.n} of {mask.m} everywhere with pattern {mask} and '
                f'does not read "{next(iter(given))}"; leave it out, or choose another rule to mix '
                'them, such as "global"'
            )
        return dict.fromkeys(names, share)
    bounds = {side: given.pop(side) for side in ("lower", "upper") if side in given}
    if upper:
        bounds["upper"] = _both(bounds.get("upper", 1.0), upper, names)
    if rule == "metanet" or given.get("start") == "metanet":
        if logits is None:
            raise ValueError('a start from "metanet" needs a metanetwork: metanet="default"')
        corrections = {name: logits[name] for name in names if name in logits}
        advised = budgets.allocate_masks(
            BASE, net, share, weights=names, corrections=corrections, pattern=mask, **bounds
        )
        if rule == "metanet":
            if given:
                raise ValueError(
                    f'budget "metanet" does not read "{next(iter(given))}": it takes lower and '
                    "upper, bounds of kept shares"
                )
            return advised
        given["start"] = advised
    return budgets.allocate_masks(rule, net, share, weights=names, pattern=mask, **bounds, **given)


def _both(
    asked: float | Mapping[str, float], held: Mapping[str, float], names: Sequence[str]
) -> dict[str, float]:
    """The lower of two upper bounds, by name."""
    own = dict.fromkeys(names, asked) if isinstance(asked, int | float) else dict(asked)
    return {name: min(own.get(name, 1.0), held.get(name, 1.0)) for name in {**own, **held}}


def held_shares(job: Job, names: Sequence[str], share: float) -> dict[str, float]:
    """What masks of earlier prunings left of weights: a new mask is part of the old one.

    Raises:
        MetAlreadyError: they left less than the target allows.
    """
    masks = {} if job.history is None else job.history.masks
    held = {name: masks[name].double().mean().item() for name in names if name in masks}
    if held:
        left = kept_share(job.net, {name: held.get(name, 1.0) for name in names})
        if share > left:
            raise MetAlreadyError(
                f"the masks of earlier prunings keep {left:.6g} of these weights, and what is gone "
                f"stays gone: ask for a sparsity above {1 - left:.6g} (asked: {1 - share:.6g})"
            )
    return held


def kept_share(net: Network, density: Mapping[str, float]) -> float:
    """Share of all the named weights that stays."""
    sizes = {name: net.tensors[name].value.numel() for name in density}
    return sum(share * sizes[name] for name, share in density.items()) / sum(sizes.values())


def masked_weights(
    net: Network, mask: MaskPattern, target: Target | None
) -> tuple[list[str], float]:
    """Weights that take a mask, and the share of them that stays.

    Raises:
        ValueError: nothing to mask, or no target where one is needed.
        UnreachableTargetError: more is asked than masks can give, or other than what N:M gives.
    """
    names = [name for name, reason in budgets.maskable(net, mask).items() if reason is None]
    if not names:
        raise ValueError(f"no weight has a shape that pattern {mask} divides")
    if not mask.m:
        if target is None:
            raise ValueError('say what to reach, for instance target={"sparsity": 0.5}')
        return names, target.density(net, names)
    share = mask.n / mask.m
    if target is not None:
        sizes = [net.tensors[name].value.numel() for name in names]
        unit = min(sizes) / mask.m / sum(sizes)
        asked = target.density(net, names)
        if not share - 1e-9 <= asked < share + unit + 1e-9:
            more = "more" if asked < share else "less"
            raise UnreachableTargetError(
                f"pattern {mask} keeps {share:.4g} of the weights and leaves no choice, {more} "
                f"than the {asked:.4g} of the target {target}; leave the target out, or choose "
                "another pattern"
            )
    return names, share
