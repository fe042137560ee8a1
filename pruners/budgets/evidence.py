"""Evidence from calibration data, collected for the rules that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from pruners.budgets.channels import CHANNEL_ALLOCATORS, CHANNEL_MEASURED
from pruners.budgets.problems.masks import Solve
from pruners.budgets.registry import ALLOCATORS, MEASURED
from pruners.budgets.rules.flap import unit_fluctuations
from pruners.sides import out_dims
from pruners.solvers import MaskPattern, build, solve
from pruners.solvers.repair import STEPS
from pruners.statistics import Imitation, input_statistics

if TYPE_CHECKING:
    from torch import nn

    from graphs import Network


def solving(
    net: Network,
    batches: Sequence[Any],
    weights: Iterable[str],
    solver: str = "magnitude",
    pattern: str | MaskPattern = "unstructured",
    repair_steps: int = STEPS,
) -> Solve:
    """The option `solve` of rules that measure: prune as the network will be pruned.

    Args:
        net: the network; its own weights are pruned.
        batches: inputs of the model; the statistics of the solver and the repair are collected
            once.
        weights: names of the budgeted tensors.
        solver, repair_steps: see `pruners.solvers.solve`.
        pattern: of the masks.
    """
    names = list(weights)
    needed = set(build(solver).needs) | ({"hessian"} if repair_steps else set())
    statistics = input_statistics(net.to_model(), batches, names, needed) if needed else {}
    sides, asked = out_dims(net, names), MaskPattern.parse(pattern)

    def one(name: str, share: float) -> torch.Tensor:
        return solve(
            solver,
            net.tensors[name].value,
            share,
            asked.at(share),
            statistics=statistics.get(name),
            out_dim=sides[name],
            repair_steps=repair_steps,
        ).weight

    return one


def needs(rule: str, channels: bool = False) -> list[str]:
    """The evidence from calibration data that a rule for masks, or for channels, reads."""
    if channels:
        found = signature(CHANNEL_ALLOCATORS[rule]).parameters
        return [name for name in CHANNEL_MEASURED if name in found]
    return [name for name in MEASURED if name in signature(ALLOCATORS[rule]).parameters]


def measured(
    rule: str,
    net: Network,
    batches: Sequence[Any],
    weights: Iterable[str] = (),
    channels: bool = False,
) -> dict[str, Any]:
    """What a rule reads beside the weights, and calibration data can tell.

    Args:
        rule: its name; what it asks for stands in its signature.
        net: the network; its own weights are run.
        batches: inputs of the model; none leaves everything out.
        weights: names of the budgeted tensors.
        channels: whether the rule is one for channels.

    Returns:
        `loss`: an `Imitation` of the dense network, with recalibrated batch norms, as a pruned
        network is used; `norms`: tensor name → norms of its inputs; `fluctuations`: see `flap`.
    """
    wanted = needs(rule, channels)
    if not wanted or not batches:
        return {}
    model: nn.Module = net.to_model()
    found: dict[str, Any] = {}
    if "loss" in wanted:
        found["loss"] = Imitation(model, batches, recalibrated=True)
    if "norms" in wanted:
        statistics = input_statistics(model, batches, weights, ("norms",))
        found["norms"] = {name: each["norms"] for name, each in statistics.items()}
    if "fluctuations" in wanted:
        found["fluctuations"] = unit_fluctuations(net, model, batches)
    return found
