"""Evidence from calibration data, collected for the rules that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pruners.budgets.problems.masks import Solve
from pruners.curves import ExpectedLoss
from pruners.solvers import MaskPattern, build, solve
from pruners.solvers.matrix import out_dims
from pruners.solvers.repair import STEPS
from pruners.statistics import Imitation, input_statistics
from pruners.statistics.fluctuations import unit_fluctuations

if TYPE_CHECKING:
    from torch import nn

    from graphs import Network


def _loss(net: Network, model: nn.Module, batches: Sequence[Any], weights: Sequence[str]) -> Any:
    return Imitation(model, batches, recalibrated=True)


def _norms(net: Network, model: nn.Module, batches: Sequence[Any], weights: Sequence[str]) -> Any:
    statistics = input_statistics(model, batches, weights, ("norms",))
    return {name: each["norms"] for name, each in statistics.items()}


def _fluctuations(
    net: Network, model: nn.Module, batches: Sequence[Any], weights: Sequence[str]
) -> Any:
    return unit_fluctuations(net, model, batches)


def _expected(
    net: Network, model: nn.Module, batches: Sequence[Any], weights: Sequence[str]
) -> Any:
    return ExpectedLoss(net, batches, weights, model=model)


class Evidence(NamedTuple):
    """What calibration data can tell.

    Args:
        words: for it, in messages.
        measure: (network, its model, batches, weights) → evidence.
    """

    words: str
    measure: Callable[..., Any]


MEASURED: Mapping[str, Evidence] = {
    "loss": Evidence("the loss of pruned networks", _loss),
    "norms": Evidence("norms of inputs", _norms),
    "fluctuations": Evidence("variances of units", _fluctuations),
    "expected": Evidence("expected losses", _expected),
}
"""Evidence that calibration data gives, by the name that rules know it by.

`loss`: an `Imitation` of the dense network, with recalibrated batch norms, as a pruned network is
used; `norms`: tensor name → norms of its inputs; `fluctuations`: see
`pruners.statistics.fluctuations`; `expected`: a `pruners.curves.ExpectedLoss`. A rule asks for one
by naming it in its signature."""


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
