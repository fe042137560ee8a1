"""The solver of a plan at work: on every weight by itself, or on one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphs import Network
from pruners import Plan, solvers
from pruners.plan import factors_of, mask_of
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.solvers import MaskPattern, Solution
from pruners.solvers.matrix import out_dims
from pruners.solvers.repair import STEPS
from pruners.statistics import input_statistics

LAYER, ORDER = "layer", "order"
REPAIR = ORDER
"""How weights make up for those that go, where nothing is said."""

MOMENTS = frozenset(("hessian", "norms"))
"""Statistics that pruning in order measures itself."""


@dataclass(frozen=True)
class Solved:
    """What the solver made of a plan.

    Args:
        solutions: weight name → solution.
        values: tensor name → value, of all that changed: weights, and biases and running means that
            took an intercept.
        settled: whether norms fit the outputs, so that there is nothing to recalibrate.
        notes: sentences for the report.
    """

    solutions: dict[str, Solution]
    values: dict[str, torch.Tensor]
    settled: bool
    notes: list[str]


def repairing(asked: bool | str) -> str | None:
    """Which repair is meant.

    Raises:
        ValueError: there is no such repair.
    """
    if isinstance(asked, bool):
        return REPAIR if asked else None
    if asked not in (LAYER, ORDER):
        raise ValueError(f'unknown repair "{asked}": expected "{LAYER}", "{ORDER}", true or false')
    return asked


def solved(net: Network, plan: Plan, batches: list[Any], repair: str | None) -> Solved:
    """Find the masks and factors of a plan, and the weights that go with them.

    Args:
        net: the dense network.
        plan: after `Plan.check`.
        batches: inputs of the model; none for solvers that read the weights alone.
        repair: "order" prunes layer after layer, each for the outputs of the dense one from the
            inputs that the pruned ones before it give (`pruners.recovery.solve_in_order`); "layer"
            fits every weight to its own outputs on dense inputs; None leaves the solver's weights.

    Raises:
        ValueError: a solver that needs calibration without batches.
    """
    names = list(dict.fromkeys((*plan.rank, *plan.density)))
    needs = set(solvers.build(plan.solver).needs)
    if needs and not batches:
        raise ValueError(
            f'solver "{plan.solver}" needs calibration: pass `calibration` or `data`, or make a '
            'plan with the solver "magnitude" or the pattern "low-rank"'
        )
    asks = {name: _ask(plan, name) for name in names}
    values: dict[str, torch.Tensor] = {}
    solutions: dict[str, Solution] = {}
    notes = []
    if repair == ORDER and batches:
        model = net.to_model()
        other = needs - MOMENTS
        extra = input_statistics(model, batches, names, other) if other else None
        found = solve_in_order(net, model, plan.solver, asks, batches, extra)
        solutions, values = dict(found.solutions), dict(found.refit.values)
        notes.append(found.status)
        left = {n: why for n, why in found.refit.not_refitted.items() if n in asks}
        for reason, count in Counter(left.values()).items():
            notes.append(f"Weights pruned by themselves: {count} ({reason}).")
    settled = bool(solutions)
    rest = [name for name in names if name not in solutions]
    if rest:
        alone = _alone(net, plan.solver, {n: asks[n] for n in rest}, batches, needs, repair)
        solutions |= alone
        values |= {name: each.weight for name, each in alone.items()}
        if repair and batches and not settled:
            notes.append("The kept weights were fitted to the outputs of the dense layers.")
    return Solved({name: solutions[name] for name in names}, values, settled, notes)


def _ask(plan: Plan, name: str) -> Ask:
    """What a plan says of one weight."""
    mask, density = mask_of(plan.pattern), plan.density.get(name)
    if mask is None or density is None:
        return Ask(None, MaskPattern.parse("unstructured"), plan.rank[name])
    rank = plan.rank.get(name, 0) if factors_of(plan.pattern) else None
    return Ask(density, mask.at(density), rank)


def _alone(
    net: Network,
    solver: str,
    asks: Mapping[str, Ask],
    batches: list[Any],
    needs: set[str],
    repair: str | None,
) -> dict[str, Solution]:
    """Every weight for itself, on the inputs of the dense network."""
    wanted = needs | ({"hessian"} if batches and repair else set())
    statistics = input_statistics(net.to_model(), batches, asks, wanted) if wanted else {}
    # One call for all weights of a rank: their repairs run together.
    found: dict[str, Solution] = {}
    for rank in dict.fromkeys(ask.rank for ask in asks.values()):
        chosen = {name: ask for name, ask in asks.items() if ask.rank == rank}
        found |= solvers.solve_many(
            solver,
            {name: net.tensors[name].value for name in chosen},
            {name: ask.density for name, ask in chosen.items()},
            {name: ask.pattern for name, ask in chosen.items()},
            statistics=statistics,
            out_dims=out_dims(net, chosen),
            repair_steps=STEPS if repair else 0,
            **next(iter(chosen.values())).options,
        )
    return found
