"""What patterns share that replace weights by factors: planning ranks and installing layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphs import Network, trace
from graphs.build.search import Rebuilt
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
) -> Plan:
    """A plan that gives weights a rank, or a mask and a rank beside it.

    Args:
        job: what is pruned.
        settings: without anything left to a default.
        names: of the weights that may be factored.
        density, rank: what was found for them.
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
        provenance=provenance(job, settings),
    )


def carry_out_factors(
    pruning: Pruning, methods: Sequence[Recovery], mask: MaskPattern | None
) -> Rebuilt:
    """Solve for the factors and put them into the place of layers.

    Every replaced layer is tried: where the model does not run with it, or computes something else
    than with the dense product (a forward that reads the layer's own weight), the layer stays
    dense, with the effective weight; that is noted, and taken out of the plan.

    Args:
        pruning: see `metaprune.patterns.base.Pattern.carry_out`.
        methods: likewise.
        mask: of the sparse part; None for low rank alone.
    """
    before, pruning.notes = pruning.notes, []
    solve(pruning, methods, mask, factors=True)
    plan, net, found = pruning.plan, pruning.base, pruning.solutions
    model = net.replace(pruning.values).to_model()
    parts = {name: _parts(net, name, each) for name, each in found.items() if plan.rank.get(name)}
    left = installed(model, parts, pruning.example_inputs)
    masks = {name: m for name, m in held_masks(pruning).items() if name not in parts}
    for name in plan.density:
        kept = name not in plan.rank
        if kept or name not in left:
            layer = name.removesuffix("weight")
            masks[name if kept else f"{layer}sparse.weight"] = found[name].mask
    pruning.plan = replace(
        plan,
        rank={name: rank for name, rank in plan.rank.items() if name not in left},
        density={name: share for name, share in plan.density.items() if name not in left},
    )
    pruning.notes = [*before, *_notes(net, pruning.plan, left), *pruning.notes]
    pruning.masks, pruning.pruned = masks, model
    pruning.small = trace(model, pruning.example_inputs)
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
    notes = [f"{sum(stored.values()):,} of {dense:,} numbers in {len(stored)} tensors stay."]
    refused = factorable(net.source.model, budgets.prunable_weights(net))
    for reason, count in Counter(r for r in refused.values() if r is not None).items():
        notes.append(f"Weights left dense: {count} ({reason}).")
    if left:
        notes.append(f"Their layer's weight is read elsewhere, so they stay dense: {_listed(left)}")
    return notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more." if len(names) > 5 else ".")
