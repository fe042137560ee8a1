"""A network and a target: budgets as choices, what they are expected to lose, what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from pruners import Target, budgets, units
from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.problems.problem import Choice, Problem
from pruners.budgets.problems.request import Request
from pruners.budgets.problems.widths import WidthProblem
from pruners.budgets.rules.expected_loss.shots import cheapest, in_shots
from pruners.budgets.rules.expected_loss.trials import ranked
from pruners.curves import Curve, ExpectedLoss, axis_curves, mask_curves, spend
from pruners.recovery.regression import LostFunctionError
from pruners.solvers import MaskPattern
from pruners.solvers.matrix import out_dims


class Case(Protocol):
    """One network to be pruned to one target by budgets that are given."""

    @property
    def problem(self) -> Problem:
        """Budgets as choices."""

    @property
    def whole(self) -> Sequence[int]:
        """What a choice holds where all of a dial stays."""

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Dial → expected loss of it."""

    def rules(self) -> dict[str, Choice]:
        """Budgets of rules, by name; the least sum of expected losses first."""

    def prune(self, choice: Choice) -> nn.Module:
        """The network by this budget, refitted or solved in order."""


class Widths:
    """Channels: units stay in the order of what each costs.

    Args:
        expected: of the network.
        target: what may be left.

    Attributes:
        orders: axis → curve, and the order in which its units stay.
    """

    def __init__(self, expected: ExpectedLoss, target: Target) -> None:
        self._expected, net = expected, expected.net
        given = units.base_scores(net)
        found = axis_curves(net, expected.sides, given, given, "loss")
        scores = {axis: score for axis, score in given.items() if axis in found}
        self._request = Request(net, scores, target, min_units=1)
        self.orders = {axis: found[axis] for axis in scores}
        self.curves = {axis: one.curve for axis, one in self.orders.items()}
        ranks = ranked(self._request, self.orders)
        self.problem = WidthProblem(net, ranks, target, None, min_units=1)
        self.whole = self.problem.sizes

    def rules(self) -> dict[str, Choice]:
        """See `Case`."""
        request, scores = self._request, self._request.scores
        found = {"expected loss": cheapest(request, self.orders)}
        for shots in (2, 4):
            with suppress(LostFunctionError):  # on the way
                found[f"expected loss, {shots} shots"] = in_shots(
                    request, self._expected, "loss", shots
                )
        found["uniform"] = request.select(scores, "uniform")
        found["l2 over the largest"] = request.select({a: s / s.max() for a, s in scores.items()})
        found["l2 over the mean"] = request.select({a: s / s.mean() for a, s in scores.items()})
        return {
            name: tuple(len(kept[axis]) for axis in self.problem.dials)
            for name, kept in found.items()
        }

    def prune(self, choice: Choice) -> nn.Module:
        """See `Case`."""
        return self._expected.after(self.problem.kept(choice)).model


class Masks:
    """Masks: shares of weights, solved in order on both sides.

    Args:
        expected: of the network.
        pattern: of the masks.
        target: what may be left.
        solver: that finds them.
    """

    def __init__(
        self, expected: ExpectedLoss, pattern: MaskPattern, target: Target, solver: str
    ) -> None:
        self._expected, self._solver, self._pattern = expected, solver, pattern
        net = expected.net
        names = [n for n, why in budgets.maskable(net, pattern).items() if why is None]
        names = [name for name in names if name in expected.sides]
        self._density = target.density(net, names)
        weights = {name: net.tensors[name].value for name in names}
        self.problem = MaskProblem(weights, self._density, None, pattern, out_dims(net, names))
        self.whole = self.problem.levels.whole
        self.curves = mask_curves({n: expected.sides[n] for n in names}, solver, pattern)

    def rules(self) -> dict[str, Choice]:
        """See `Case`."""
        sizes = dict(zip(self.problem.dials, self.problem.sizes, strict=True))
        none, all_ = dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 1.0)
        total = self._density * sum(sizes.values())
        shares = {"expected loss": spend(self.curves, sizes, total, none, all_)}
        for name in ("uniform", "erk", "lamp", "global"):
            shares[name] = budgets.allocate_masks(
                name,
                self._expected.net,
                self._density,
                weights=self.problem.dials,
                pattern=self._pattern,
            )
        return {
            name: self.problem.realise(self.problem.start(found)) for name, found in shares.items()
        }

    def prune(self, choice: Choice) -> nn.Module:
        """See `Case`."""
        shares = self.problem.shares(choice).tolist()
        kept = dict(zip(self.problem.dials, shares, strict=True))
        return self._expected.masked(kept, self._solver, self._pattern)


@dataclass(frozen=True)
class Goal:
    """A pattern, and what is asked of it.

    Args:
        pattern: "channels", or a pattern of masks.
        asked: target.
    """

    pattern: str
    asked: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Goal:
        """From a mapping {pattern, and what is asked}.

        Raises:
            ValueError: no pattern, no target, or one that is none.
        """
        asked = {key: value for key, value in given.items() if key != "pattern"}
        if "pattern" not in given or not asked:
            raise ValueError(
                "a target of triples names its pattern and what is asked, for instance "
                f"{{pattern: channels, macs: 50%}} (got {dict(given)})"
            )
        Target.parse(asked)
        if given["pattern"] != "channels" and MaskPattern.parse(given["pattern"]).m:
            raise ValueError(f'pattern "{given["pattern"]}" leaves no budget to choose')
        return cls(str(given["pattern"]), asked)

    @property
    def name(self) -> str:
        """For a folder: "channels-macs-50"."""
        parts = [self.pattern, *(f"{key}-{value}" for key, value in self.asked.items())]
        return "-".join(parts).replace("%", "").replace(":", "_")

    def case(self, expected: ExpectedLoss, solver: str) -> Case:
        """The case of a network."""
        target = Target.parse(self.asked)
        if self.pattern == "channels":
            return Widths(expected, target)
        return Masks(expected, MaskPattern.parse(self.pattern), target, solver)
