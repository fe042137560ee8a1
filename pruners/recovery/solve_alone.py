"""Solvers at work on every weight for itself, on the inputs of the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from graphs import Network
from pruners import solvers
from pruners.recovery.base import Pruning
from pruners.recovery.normed import normed, with_every_slice
from pruners.recovery.refit import UNSEEN
from pruners.recovery.sides import output_sides
from pruners.recovery.solve_in_order import Ask
from pruners.recovery.support import nested
from pruners.solvers import Solution, as_matrix, from_matrix
from pruners.solvers.matrix import out_dims
from pruners.solvers.repair import STEPS
from pruners.statistics import input_statistics


def check_needs(pruning: Pruning) -> set[str]:
    """What the plan's solver reads of the inputs.

    Raises:
        ValueError: it reads something, and there are no batches.
    """
    needs = set(solvers.build(pruning.plan.solver).needs)
    if needs and not pruning.batches:
        raise ValueError(
            f'solver "{pruning.plan.solver}" needs calibration: pass `calibration` or `data`, or '
            'make a plan with the solver "magnitude" or the pattern "low-rank"'
        )
    return needs


def solve_alone(pruning: Pruning, *, fitted: bool, sides: int = 1) -> None:
    """Find the weights that are asked for and not solved yet, each for itself.

    Args:
        pruning: its `solutions` and `values` are filled in.
        fitted: whether kept weights are fitted to the outputs of their own layer; without batches
            they never are. Weights whose inputs cannot be measured (`pruners.statistics.calls`) are
            chosen by the solver for masks that needs no data, and the notes say so.
        sides: 2 for errors of outputs as the predictions feel them, where there are batches.

    Raises:
        ValueError: a solver that needs calibration without batches.
    """
    needs = check_needs(pruning)
    asks = {name: ask for name, ask in pruning.asks.items() if name not in pruning.solutions}
    fitted = fitted and bool(pruning.batches)
    wanted = needs | ({"hessian"} if fitted else set())
    net = pruning.base
    statistics = (
        input_statistics(net.to_model(), pruning.batches, asks, wanted) if wanted and asks else {}
    )
    if sides == 2 and fitted and asks:
        curved = output_sides(pruning, net.to_model(), asks)
        statistics = {n: {**statistics.get(n, {}), **curved.get(n, {})} for n in asks}
    found, unmeasured = solved_alone(
        net, pruning.plan.solver, asks, statistics, steps=STEPS if fitted else 0
    )
    if unmeasured:
        without = solvers.WITHOUT_CALIBRATION
        pruning.notes.append(f"Weights pruned by {without}: {len(unmeasured)} ({UNSEEN}).")
    for name, ask in asks.items():
        if ask.within is not None:
            found[name] = _inside(net, name, found[name], ask, statistics.get(name, {}), fitted)
    pruning.solutions |= found
    pruning.values |= {name: each.weight for name, each in found.items()}


def solved_alone(
    net: Network,
    solver: str,
    asks: Mapping[str, Ask],
    statistics: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    steps: int,
) -> tuple[dict[str, Solution], list[str]]:
    """Solutions of weights, each for itself, and which of them were chosen without data.

    Args:
        net: whose weights they are.
        solver: of `pruners.solvers`; masks of weights without the statistics that it reads are
            found by the one that needs none.
        asks: weight name → what it is to become; earlier masks do not count.
        statistics: weight name → what is known of its inputs.
        steps: of the repair of kept weights.
    """
    needs = set(solvers.build(solver).needs)
    kinds, unmeasured = {}, []
    for name, ask in asks.items():
        blind = bool(needs - set(statistics.get(name, {}))) and ask.rank is None
        kinds[name] = (solvers.WITHOUT_CALIBRATION if blind else solver, ask.rank)
        if kinds[name][0] != solver:
            unmeasured.append(name)
    # One call for all weights of a solver and rank: their repairs run together.
    found: dict[str, Solution] = {}
    for kind in dict.fromkeys(kinds.values()):
        chosen: dict[str, Ask] = {name: ask for name, ask in asks.items() if kinds[name] == kind}
        found |= solvers.solve_many(
            kind[0],
            {name: net.tensors[name].value for name in chosen},
            {name: ask.density for name, ask in chosen.items()},
            {name: ask.pattern for name, ask in chosen.items()},
            statistics=statistics,
            out_dims=out_dims(net, chosen),
            repair_steps=steps,
            **next(iter(chosen.values())).options,
        )
    for name, dim in normed(net).items():
        if name in found and found[name].factors is None:
            found[name] = with_every_slice(net.tensors[name].value, found[name], dim)
    return found, unmeasured


def _inside(
    net: Network,
    name: str,
    found: Solution,
    ask: Ask,
    statistics: Mapping[str, torch.Tensor],
    fitted: bool,
) -> Solution:
    """A solution inside an earlier mask, in the shape of the weight."""
    assert ask.within is not None
    value, side = net.tensors[name].value, out_dims(net, [name])[name]
    matrix, within = as_matrix(value, side), as_matrix(ask.within, side)
    mask = as_matrix(found.mask, side)
    plain = replace(found, weight=as_matrix(found.weight, side), mask=mask)
    inner = nested(plain, matrix, ask, within, statistics.get("hessian") if fitted else None)
    return replace(
        inner,
        weight=from_matrix(inner.weight, value.shape, side),
        mask=from_matrix(inner.mask, value.shape, side),
    )
