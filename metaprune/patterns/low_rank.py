"""Plans of low rank, alone or beside masks, and how they are carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from graphs import Network
from graphs.calls.running import as_inputs, outputs
from metaprune.calibration import Calibration
from metaprune.patterns.solve import solved
from metaprune.results.provenance import versions
from pruners import Plan, Target, budgets, fingerprint
from pruners.factors import Parts, factorable, factored, swap
from pruners.plan import mask_of
from pruners.solvers import MaskPattern, Solution, as_matrix, from_matrix
from pruners.solvers.matrix import matrix_shape, out_dims
from pruners.statistics import input_statistics


def rules(pattern: str) -> list[str]:
    """Budget rules that divide a pattern of factors."""
    mask = mask_of(pattern)
    return budgets.rules_for("ranks") if mask is None else budgets.rules_beside(mask)


def default_rule(pattern: str, measured: bool) -> str:
    """The rule where none is named: "uniform" beside masks, as it is published.

    For ranks alone the marginal price where there is data to measure it on.
    """
    if mask_of(pattern) is not None:
        return "uniform"
    return "price" if measured else "global"


def plan_factors(
    net: Network,
    model: nn.Module,
    target: Target | None,
    pattern: str,
    rule: str,
    options: Mapping[str, Any],
    solver: str,
    calibration: Calibration | None,
) -> Plan:
    """A plan that gives weights a rank, or a mask and a rank beside it.

    Args:
        net: the dense network.
        model: the module it was traced from.
        target: what it may cost; None only for N:M beside ranks, which then get a quarter of all
            numbers (Zhang & Papyan 2025, OATS, §3.3).
        pattern: one of factors (`pruners.plan.factors_of`).
        rule, options: of the budget.
        solver: that will find the factors.
        calibration: for the approximation of outputs instead of weights, and rules that measure.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        ValueError: no weight that may be factored, or a target that masks beside ranks cannot meet.
    """
    refused = factorable(model, budgets.prunable_weights(net))
    names = [name for name, reason in refused.items() if reason is None]
    if not names:
        reasons = ", ".join(f"{n} ({r})" for n, r in list(refused.items())[:3])
        raise ValueError(f"no weight can be replaced by factors: {reasons or 'there are none'}")
    batches = calibration.model_inputs if calibration else []
    mask = mask_of(pattern)
    if mask is None:
        assert target is not None
        rank = _ranks(net, names, target, rule, options, batches)
        budget = budgets.Budget(rank=rank)
    else:
        names = [n for n in names if mask.refusal(*matrix_shape(net, n)) is None]
        if not names:
            raise ValueError(f"no weight has a shape that pattern {mask} divides")
        budget = _beside(net, names, target, mask, rule, options, batches)
    provenance: dict[str, Any] = {"versions": versions(), "fingerprints": fingerprint(net)}
    if options and rule != "manual":
        provenance["budget"] = {key: str(value) for key, value in options.items()}
    total = sum(net.tensors[name].value.numel() for name in names)
    stored = sum(budget.stored(net).values())
    divided = {*budget.density, *budget.rank}
    whole = sum(net.tensors[n].value.numel() for n in names if n not in divided)
    return Plan(
        pattern=pattern,
        solver=solver,
        budget=rule,
        asked={} if target is None else target.asked,
        achieved={"sparsity": 1 - (stored + whole) / total},
        density=budget.density,
        rank=budget.rank,
        provenance=provenance,
    )


def _ranks(
    net: Network,
    names: list[str],
    target: Target,
    rule: str,
    options: Mapping[str, Any],
    batches: list[Any],
) -> dict[str, int]:
    """Ranks of low rank alone."""
    # Out of reach is said before anything is measured.
    budgets.rank_limits(net, names, target)
    statistics = input_statistics(net.to_model(), batches, names, ("hessian",)) if batches else None
    evidence = budgets.measured(rule, net, batches, names, "ranks")
    return budgets.allocate_ranks(
        rule, net, names, target, statistics=statistics, **{**evidence, **options}
    )


def _beside(
    net: Network,
    names: list[str],
    target: Target | None,
    mask: MaskPattern,
    rule: str,
    options: Mapping[str, Any],
    batches: list[Any],
) -> budgets.Budget:
    """Kept shares and ranks of masks beside low rank."""
    density = None if target is None else target.density(net, names)
    evidence = budgets.measured(rule, net, batches, names)
    if rule in budgets.JOINT and batches:
        found = input_statistics(net.to_model(), batches, names, ("norms",))
        evidence["norms"] = {name: each["norms"] for name, each in found.items()}
    return budgets.allocate_beside(
        rule, net, density, mask, weights=names, **{**evidence, **options}
    )


@dataclass(frozen=True)
class Factored:
    """A network whose layers were replaced.

    Args:
        model: the module.
        plan: without the weights that had to stay dense.
        masks: parameter name → bool, of sparse parts.
        settled: see `metaprune.patterns.solve.Solved`.
        notes: sentences for the report.
    """

    model: nn.Module
    plan: Plan
    masks: dict[str, torch.Tensor]
    settled: bool
    notes: list[str]


def factor(
    net: Network, plan: Plan, batches: list[Any], example_inputs: Any, repair: str | None
) -> Factored:
    """Carry out a plan of factors.

    Every replaced layer is tried: where the model does not run with it, or computes something else
    than with the dense product (a forward that reads the layer's own weight), the layer stays
    dense, with the effective weight, and that is noted.

    Args:
        net: the dense network.
        plan: after `Plan.check`.
        batches: inputs of the model, for solvers that read statistics.
        example_inputs: what the model runs on.
        repair: see `metaprune.patterns.solve.solved`.

    Raises:
        ValueError: a solver that needs calibration without batches.
    """
    solution = solved(net, plan, batches, repair)
    found = solution.solutions
    model = net.replace(solution.values).to_model()
    parts = {name: _parts(net, name, each) for name, each in found.items() if plan.rank.get(name)}
    left = installed(model, parts, example_inputs)
    masks = {}
    for name in plan.density:
        layer = name.removesuffix("weight")
        kept = name not in plan.rank
        if kept or name not in left:
            masks[name if kept else f"{layer}sparse.weight"] = found[name].mask
    plan = replace(
        plan,
        rank={name: rank for name, rank in plan.rank.items() if name not in left},
        density={name: share for name, share in plan.density.items() if name not in left},
    )
    notes = [*_notes(net, plan, left), *solution.notes]
    return Factored(model, plan, masks, solution.settled, notes)


def installed(model: nn.Module, parts: Mapping[str, Parts], example_inputs: Any) -> list[str]:
    """Put factored layers into a model whose weights are their products, in place.

    Returns:
        Names of the weights that stay dense, because the model does not compute the same with them.
    """
    inputs = as_inputs(example_inputs)
    expected = outputs(model, inputs)
    dense = {name: model.get_submodule(_path(name)) for name in parts}
    factored(model, parts)
    if _near(outputs(model, inputs), expected):
        return []
    thin = {name: swap(model, _path(name), layer) for name, layer in dense.items()}
    left = []
    for name, layer in thin.items():
        swap(model, _path(name), layer)
        if not _near(outputs(model, inputs), expected):
            swap(model, _path(name), dense[name])
            left.append(name)
    return left


def _parts(net: Network, name: str, found: Solution) -> Parts:
    """Factors and sparse part of a solution."""
    assert found.factors is not None
    side = out_dims(net, [name])[name]
    if not found.mask.any():
        return Parts(found.factors)
    rest = as_matrix(found.weight, side).float() - found.factors.product().float()
    sparse = from_matrix(rest, found.weight.shape, side) * found.mask
    return Parts(found.factors, sparse.to(found.weight.dtype))


def _near(found: list[torch.Tensor] | Exception, expected: list[torch.Tensor] | Exception) -> bool:
    """Whether outputs agree up to the rounding of one product more."""
    if isinstance(found, Exception) or isinstance(expected, Exception):
        return False
    if len(found) != len(expected):
        return False
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.is_floating_point() and a.numel():
            scale = b.abs().max()
            if not (a - b).abs().max() <= torch.finfo(b.dtype).eps ** 0.5 * scale:
                return False
    return True


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


def _path(name: str) -> str:
    return name.rpartition(".")[0]
