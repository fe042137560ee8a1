"""One block: what masks can take, what they are expected to cost, and its weights once solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graphs import Network, trace
from metaprune.ignoring import ASKED
from pruners import budgets
from pruners.curves import Curve, mask_curves
from pruners.curves.sides import both_sides_of
from pruners.recovery.refit import input_moments
from pruners.recovery.solve_alone import solved_alone
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.solvers import MaskPattern, build
from pruners.solvers.repair import STEPS
from pruners.statistics import input_statistics


@dataclass(frozen=True)
class Solved:
    """A block with masks.

    Args:
        values: parameter name → value that changed.
        masks: weight name → bool.
        errors: weight name → relative error of its outputs, before and after the solver.
        notes: sentences.
    """

    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    errors: dict[str, tuple[float, float]]
    notes: tuple[str, ...] = ()


def network_of(block: nn.Module, inputs: Mapping[str, Any], ignored: Sequence[str]) -> Network:
    """The network of a block alone.

    Args:
        block: filled.
        inputs: keyword arguments of its forward.
        ignored: parameters that stay dense.
    """
    net = trace(block, dict(inputs))
    return net.freeze(ignored, ASKED, shapes=False) if ignored else net


def takes_masks(net: Network, mask: MaskPattern) -> list[str]:
    """Weights that masks of this pattern fit."""
    return [name for name, why in budgets.maskable(net, mask).items() if why is None]


def curves_of(
    net: Network,
    block: nn.Module,
    batches: Sequence[Any],
    curvature: Mapping[str, Tensor],
    weights: Sequence[str],
    mask: MaskPattern,
    solver: str,
) -> dict[str, Curve]:
    """Curves of expected loss over kept shares; weights that are not measured have none."""
    known = [name for name in weights if name in curvature]
    moments = input_moments(net, block, batches, known)
    return mask_curves(both_sides_of(net, moments, curvature, {}), solver, mask)


def solved(
    net: Network,
    block: nn.Module,
    asks: Mapping[str, Ask],
    solver: str,
    curvature: Mapping[str, Tensor],
    dense: Sequence[Any],
    pruned: Sequence[Any],
    *,
    again: bool,
) -> Solved:
    """Masks of a block, layer after layer, for what the pruned blocks before it give.

    Args:
        net: of the block.
        block: filled with dense weights; left as it was.
        asks: weight name → what it is to become.
        solver: of `pruners.solvers`; reads no gradients.
        curvature: weight name → G, for errors as the predictions feel them; none for the layer's
            own.
        dense, pruned: batches of the block, as the dense and the pruned blocks before it give them.
        again: see `pruners.recovery.refit_in_order`.
    """
    sides = {name: {"curvature": curvature[name]} for name in asks if name in curvature}
    found = solve_in_order(
        net, block, solver, asks, pruned, sides, dense_batches=dense, again=again
    )
    solutions, values = dict(found.solutions), dict(found.refit.values)
    rest = {name: ask for name, ask in asks.items() if name not in solutions}
    notes = []
    if rest:
        needs = set(build(solver).needs) | {"hessian"}
        measured = input_statistics(block, pruned, rest, needs)
        given = {name: {**measured.get(name, {}), **sides.get(name, {})} for name in rest}
        alone, unmeasured = solved_alone(net, solver, rest, given, steps=STEPS)
        solutions |= alone
        values |= {name: each.weight for name, each in alone.items()}
        for name in rest:
            why = found.refit.not_refitted.get(name, "it has no place in the order")
            how = " without data" if name in unmeasured else ""
            notes.append(f"{name} was pruned by itself{how}: {why}.")
    masks = {name: solution.mask for name, solution in solutions.items()}
    return Solved(values, masks, dict(found.refit.errors), tuple(notes))


def put(block: nn.Module, values: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]) -> None:
    """Write values into a block, rounded as they will be read back.

    Args:
        block: changed in place.
        values: parameter name → value.
        dtypes: parameter name → dtype of the file.
    """
    parameters = dict(block.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value.to(dtypes[name]))
