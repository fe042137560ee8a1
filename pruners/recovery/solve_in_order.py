"""Solvers in order: every layer is pruned for the inputs that the pruned layers before it give.

        min over W' of Σ ‖y − W' x' − b‖²        W' with a mask, of a rank, or both

y is the output of the dense layer in the dense network, x' the input of the layer in the pruned
one. The best W without a constraint is a regression; the constrained one is then what a solver
makes of that W and of the moments of x': the error is the regression's plus ‖(W − W') X'‖².
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.tools.words import counted
from pruners.recovery.refit import Refit
from pruners.recovery.refit_in_order import refit_in_order
from pruners.recovery.regression import Regression
from pruners.recovery.support import nested, on_support
from pruners.solvers import MaskPattern, Solution, as_matrix, from_matrix, solve
from pruners.solvers.matrix import out_dims

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class Ask:
    """What one weight is to become.

    Args:
        density: kept share of the mask; None for N:M, and where there is none.
        pattern: of the mask.
        rank: of the factors; None where there are none.
        within: bool, in the shape of the weight: an earlier mask, which the new one is part of.
    """

    density: float | None
    pattern: MaskPattern
    rank: int | None = None
    within: torch.Tensor | None = None

    @property
    def options(self) -> dict[str, int]:
        """Of the solver's constructor."""
        return {} if self.rank is None else {"rank": self.rank}


@dataclass(frozen=True)
class InOrder:
    """What came of it.

    Args:
        solutions: weight name → solution, in the shape of the weight.
        refit: values of all that changed (weights, biases, running means), errors, and what the
            forward calls in a way that has no order.
    """

    solutions: dict[str, Solution]
    refit: Refit

    @property
    def status(self) -> str:
        """One sentence for a person."""
        pairs = [self.refit.errors[name] for name in self.solutions]
        if not pairs:
            return "No layer was pruned in order."
        mean = sum(after for _, after in pairs) / len(pairs)
        return (
            f"{counted(len(pairs), 'layer')} pruned in order, each for the outputs of the dense "
            f"one (mean output error {mean:.3g})."
        )


def solve_in_order(
    net: Network,
    model: nn.Module,
    solver: str,
    asks: Mapping[str, Ask],
    batches: Sequence[Any],
    statistics: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    held: Mapping[str, torch.Tensor] | None = None,
    dense_batches: Sequence[Any] | None = None,
    again: bool = False,
) -> InOrder:
    """Prune weights layer by layer, with one forward pass of the dense and the pruned network.

    Layers that are not asked for are fitted to the outputs of the dense ones as well, and where a
    bias or the running mean of a norm can take an intercept, it does: norms need no recalibration.
    Groups of a convolution share their second moments, as in `pruners.statistics`.

    Args:
        net, model: the dense network and its module; left as they were.
        solver: of `pruners.solvers`.
        asks: weight name → what it is to become.
        batches: example inputs; the activations of all of them live at the same time.
        statistics: weight name → what the solver reads beside the moments of inputs: gradients.
        held: weight name → bool, masks that weights which are not asked for keep.
        dense_batches, again: see `refit_in_order`.

    Returns:
        Solutions of the weights that are called once; for the others, `refit.not_refitted` says
        why there is none.

    Raises:
        ValueError: no batches, or what the solver refuses.
    """
    solutions: dict[str, Solution] = {}
    masked = on_support(net, {n: m for n, m in (held or {}).items() if n not in asks})

    def form(name: str, weight: torch.Tensor, sums: Regression) -> torch.Tensor | None:
        ask = asks.get(name)
        if ask is None:
            return None if masked is None else masked(name, weight, sums)
        dtype = torch.promote_types(net.tensors[name].value.dtype, torch.float32)
        count = float(sums.count.mean())
        hessian = sums.xx.mean(0) / count
        given = {
            **(statistics or {}).get(name, {}),
            "hessian": hessian.to(dtype),
            "norms": hessian.diagonal().clamp_min(0).sqrt().to(dtype),
            "samples": torch.tensor(count),
        }
        found = solve(
            solver,
            weight.flatten(0, 1).to(dtype),
            ask.density,
            ask.pattern,
            statistics=given,
            **ask.options,
        )
        if ask.within is not None:
            within = as_matrix(ask.within, out_dims(net, [name])[name])
            found = nested(found, weight.flatten(0, 1).to(dtype), ask, within, given["hessian"])
        solutions[name] = found
        return found.weight.unflatten(0, (len(weight), -1))

    refit = refit_in_order(
        net,
        model,
        net,
        net.to_model(),
        {},
        batches,
        form=form,
        dense_batches=dense_batches,
        again=again,
    )
    sides = out_dims(net, solutions)
    for name, found in solutions.items():
        value = net.tensors[name].value
        solutions[name] = replace(
            found,
            weight=refit.values[name],
            mask=from_matrix(found.mask, value.shape, sides[name]),
        )
    return InOrder(solutions, refit)
