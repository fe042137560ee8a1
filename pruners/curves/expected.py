"""Expected loss of one network: measured once, for every rule that spends on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pruners.curves.curve import Prediction
from pruners.curves.sides import Sides, measure_sides
from pruners.curves.trial import FEWEST, Judge, cut_and_refitted, left_out
from pruners.recovery.solve_alone import solved_alone
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.solvers import MaskPattern, build
from pruners.solvers.repair import STEPS
from pruners.statistics import Likelihood, NoCurvatureError, input_statistics

if TYPE_CHECKING:
    from graphs import Network


APART = 100.0
"""Times that the curvature of a pruned network may differ from the dense one's."""


class ExpectedLoss:
    """What a network is expected to lose; measures both sides of its weights when first asked.

    Args:
        net: the network; its own weights are run.
        batches: inputs of the model.
        weights: names; none for all that have an input dimension.
        likelihood: of what gradients are taken.
        model: of this network, where there is one already.
    """

    def __init__(
        self,
        net: Network,
        batches: Sequence[Any],
        weights: Iterable[str] = (),
        likelihood: Likelihood | None = None,
        model: nn.Module | None = None,
    ) -> None:
        self.net, self.batches = net, list(batches)
        self.likelihood = likelihood or Likelihood()
        self.prediction: Prediction | None = None
        """Of the budget that was divided last, for reports."""
        self.tried: dict[str, float] = {}
        """Way of choosing → divergence on examples left out, where several were tried."""
        self.candidates: list[dict[str, Any]] = []
        """What a surrogate proposed, as plans record it."""
        self._weights = list(weights)
        self._model = model

    @cached_property
    def model(self) -> nn.Module:
        """Runs the network."""
        return self.net.to_model() if self._model is None else self._model

    @cached_property
    def sides(self) -> dict[str, Sides]:
        """Weight name → both sides of it, where calls of it are measured."""
        names = self._weights or [
            name
            for name, tensor in self.net.tensors.items()
            if tensor.role == "weight" and tensor.input_dim is not None
        ]
        return measure_sides(self.net, self.model, self.batches, names, self.likelihood)

    @property
    def unreached(self) -> dict[str, str]:
        """Weights that no gradient reaches, which count as an average one → why."""
        return {name: one.unreached for name, one in self.sides.items() if one.unreached}

    def divided(self) -> tuple[ExpectedLoss, Judge]:
        """The same measured on a part of the batches, and a judge on those that are left out."""
        measuring, judging = left_out(self.batches)
        part = ExpectedLoss(self.net, measuring, self._weights, self.likelihood, self.model)
        return part, Judge(self.model, judging)

    def judged_apart(self, insist: bool) -> tuple[ExpectedLoss, Judge] | None:
        """See `divided`; None where nothing can tell one pruning from another.

        Args:
            insist: whether that is an error.

        Raises:
            ValueError: outputs that are no scores, or fewer than `FEWEST` predictions left out.
        """
        try:
            part, judge = self.divided()
        except NoCurvatureError as error:  # outputs that are no scores cannot be judged
            if insist:
                raise ValueError(f"nothing judges evaluations: {error}") from error
            return None
        if judge.predictions >= FEWEST:
            return part, judge
        if insist:
            raise ValueError(
                f"evaluations are judged by predictions of a quarter of the calibration, and "
                f"{judge.predictions} of at least {FEWEST} are there; give more examples"
            )
        return None

    def after(self, kept: Mapping[str, torch.Tensor]) -> ExpectedLoss:
        """Of the network without the units that go, refitted in order.

        Args:
            kept: axis name → kept unit indices.
        """
        net, model = cut_and_refitted(self.net, self.model, kept, self.batches)
        return ExpectedLoss(net, self.batches, (), self.likelihood, model)

    def masked(
        self, shares: Mapping[str, float], solver: str, pattern: MaskPattern, rounds: int = 1
    ) -> nn.Module:
        """The network under masks, solved in order; weights without a place in it by themselves.

        Args:
            shares: weight name → kept share.
            solver: of `pruners.solvers`.
            pattern: of the masks.
            rounds: solutions, each from the dense weights, with the curvature of the network that
                the one before left.
        """
        asks = {
            name: Ask(None if pattern.m else share, pattern.at(share))
            for name, share in shares.items()
            if share < 1
        }
        sides = self.sides
        for number in range(1, rounds + 1):
            known = {n: one.statistics() for n, one in sides.items()}
            found = solve_in_order(self.net, self.model, solver, asks, self.batches, known)
            alone = self._alone({n: a for n, a in asks.items() if n not in found.solutions}, solver)
            left = self.net.replace({**found.refit.values, **alone}).to_model()
            if number < rounds:
                sides = self.curved_by(left)
        return left

    def _alone(self, asks: Mapping[str, Ask], solver: str) -> dict[str, torch.Tensor]:
        """Weights that have no place in an order, solved as they will be: each for itself."""
        if not asks:
            return {}
        read = set(build(solver).needs) | {"hessian"}
        statistics = input_statistics(self.model, self.batches, asks, read)
        found, _ = solved_alone(self.net, solver, asks, statistics, steps=STEPS)
        return {name: each.weight for name, each in found.items()}

    def curved_by(self, model: nn.Module) -> dict[str, Sides]:
        """The same sides with the curvature of another module of this architecture.

        They stay as they are where that module has lost its function: its curvature then says what
        is left to lose, which is nothing, or explodes behind a layer that says nothing.

        Args:
            model: pruned.
        """
        other = measure_sides(self.net, model, self.batches, list(self.sides), self.likelihood)
        for name, one in self.sides.items():
            if name not in other or not one.reached:
                continue
            before, after = (float(side.curvature.abs().sum()) for side in (one, other[name]))
            if before > 0 and not 1 / APART <= after / before <= APART:
                return self.sides
        return {
            name: replace(one, curvature=other[name].curvature) if name in other else one
            for name, one in self.sides.items()
        }
