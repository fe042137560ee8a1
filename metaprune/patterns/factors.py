"""What patterns share that replace weights by factors: planning ranks and installing layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphs import Network, trace
from graphs.build.search import Rebuilt
from graphs.tools.words import counted
from metaprune.job import Job
from metaprune.patterns.base import provenance
from metaprune.patterns.install import installed
from metaprune.patterns.weights import held_masks, solve
from metaprune.settings import Settings
from pruners import Plan, budgets
from pruners.factors import Parts, factorable
from pruners.recovery.base import Pruning, Recovery
from pruners.solvers import Solution, as_matrix, from_matrix
from pruners.solvers.matrix import out_dims
from pruners.solvers.zeros import MaskPattern

ONCE = "factors of factors would be thinner layers in a longer chain; ask for the ranks at once"
"""Why factors are not found in several steps."""


def factored_weights(job: Job) -> list[str]:
    """Weights that may be replaced by factors.

    Raises:
        ValueError: there are none; says why.
    """
    refused = factorable(job.model, budgets.prunable_weights(job.net))
    names = [name for name, reason in refused.items() if reason is None]
    if not names:
        reasons = ", ".join(f"{n} ({r})" for n, r in list(refused.items())[:3])
        raise ValueError(f"no weight can be replaced by factors: {reasons or 'there are none'}")
    return names


def plan_of(
    job: Job,
    settings: Settings,
    names: Sequence[str],
    density: Mapping[str, float],
    rank: Mapping[str, int],
    more: Mapping[str, Any] | None = None,
) -> Plan:
    """A plan that gives weights a rank, or a mask and a rank beside it.

    Args:
        job: what is pruned.
        settings: without anything left to a default.
        names: of the weights that may be factored.
        density, rank: what was found for them.
        more: for the provenance.
    """
    net = job.net
    assert settings.budget is not None
    assert settings.solver is not None
    total = sum(net.tensors[name].value.numel() for name in names)
    stored = sum(budgets.Budget(density, rank).stored(net).values())
    whole = sum(net.tensors[n].value.numel() for n in names if n not in {*density, *rank})
    return Plan(
        pattern=settings.pattern,
        solver=settings.solver,
        budget=budgets.named(settings.budget)[0],
        asked={} if settings.wanted is None else settings.wanted.asked,
        achieved={"sparsity": 1 - (stored + whole) / total},
        density=density,
        rank=rank,
        provenance=provenance(job, settings, **(more or {})),
    )


def carry_out_factors(
    pruning: Pruning, methods: Sequence[Recovery], mask: MaskPattern | None
) -> Rebuilt:
    """Solve for the factors and put them into the place of layers.

    Every replaced layer is tried: where the model does not run with it, or computes something else
    than with the dense product (a forward that reads the layer's own weight), the layer stays
    dense: that is noted, taken out of the plan, and what is left of the plan is solved anew, so
    that the plan replays to the same weights.

    Args:
        pruning: see `metaprune.patterns.base.Pattern.carry_out`.
        methods: likewise.
        mask: of the sparse part; None for low rank alone.
    """
    net, before, left = pruning.base, pruning.notes, list[str]()
    while True:
        pruning.asks, pruning.solutions, pruning.values, pruning.notes = {}, {}, {}, []
        solve(pruning, methods, mask, factors=True)
        model = net.replace(pruning.values).to_model()
        plan, found = pruning.plan, pruning.solutions
        parts = {n: _parts(net, n, each) for n, each in found.items() if plan.rank.get(n)}
        refused = installed(model, parts, pruning.example_inputs)
        if not refused:
            break
        left += refused
        pruning.plan = replace(
            plan,
            rank={n: rank for n, rank in plan.rank.items() if n not in refused},
            density={n: share for n, share in plan.density.items() if n not in refused},
        )
    pruning.masks = held_masks(pruning)
    for name in plan.density:
        sparse = name if name not in plan.rank else f"{name.removesuffix('weight')}sparse.weight"
        pruning.masks[sparse] = found[name].mask
    pruning.notes = [*before, *_notes(net, plan, left), *pruning.notes]
    pruning.pruned, pruning.small = model, trace(model, pruning.example_inputs)
    return Rebuilt(model)


def _parts(net: Network, name: str, found: Solution) -> Parts:
    """Factors and sparse part of a solution."""
    assert found.factors is not None
    side = out_dims(net, [name])[name]
    if not found.mask.any():
        return Parts(found.factors)
    rest = as_matrix(found.weight, side).float() - found.factors.product().float()
    sparse = from_matrix(rest, found.weight.shape, side) * found.mask
    return Parts(found.factors, sparse.to(found.weight.dtype))


def _notes(net: Network, plan: Plan, left: list[str]) -> list[str]:
    stored = budgets.Budget.of(plan).stored(net)
    dense = sum(net.tensors[name].value.numel() for name in stored)
    where = counted(len(stored), "tensor")
    notes = [f"{sum(stored.values()):,} of {dense:,} numbers in {where} stay."]
    refused = factorable(net.source.model, budgets.prunable_weights(net))
    for reason, count in Counter(r for r in refused.values() if r is not None).items():
        notes.append(f"Weights left dense: {count} ({reason}).")
    if left:
        notes.append(f"Their layer's weight is read elsewhere, so they stay dense: {_listed(left)}")
    return notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more." if len(names) > 5 else ".")
