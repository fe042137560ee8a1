"""What transformations are asked: which network is to become easy, and for what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from graphs.axes.dims import atoms
from graphs.symmetries.values import Symmetry
from pruners.budgets import maskable
from pruners.budgets.problems.request import Cut
from pruners.budgets.problems.request import Request as Widths
from pruners.budgets.rules.expected_loss.shots import in_shots
from pruners.curves import ExpectedLoss
from pruners.curves.trial import cut_and_refitted
from pruners.moves import Moves
from pruners.solvers.zeros import MaskPattern
from pruners.targets import SPARED, Target
from pruners.units.scores import base_scores
from pruners.units.select import MinUnits

if TYPE_CHECKING:
    from graphs import Network

ROUNDS = 2
"""Solutions before masks are judged, as many as they get by default: one ranks ways otherwise."""


@dataclass(frozen=True)
class Request(ABC):
    """What is to become easy.

    Args:
        net: the network; left as it was.
        model: its module.
        batches: inputs of the model; none where nothing was given to calibrate on.
    """

    net: Network
    model: nn.Module
    batches: Sequence[Any]

    def after(self, moves: Moves) -> Self:
        """The same for what moves make of the network."""
        if not moves:
            return self
        net = moves.apply(self.net)
        return replace(self, net=net, model=net.to_model())

    @abstractmethod
    def weights(self, net: Network) -> list[str]:
        """Names of the weights by which axes are turned, in a form of the network."""

    @abstractmethod
    def concerns(self, net: Network, symmetry: Symmetry) -> bool:
        """Whether it is easier with this axis of a form of the network turned."""

    @abstractmethod
    def pruned(self) -> nn.Module:
        """The network pruned on trial, in the least time that ranks one form of it by another."""


@dataclass(frozen=True)
class MaskRequest(Request):
    """Weights will become 0.

    Args:
        zeros: where zeros may fall.
        density: share of the weights that stays.
        solver: that will find the masks.
    """

    zeros: MaskPattern
    density: float
    solver: str

    def weights(self, net: Network) -> list[str]:
        """Those that take a mask."""
        return [name for name, why in maskable(net, self.zeros).items() if why is None]

    def concerns(self, net: Network, symmetry: Symmetry) -> bool:
        """Whether the axis runs through a weight that takes a mask."""
        masked = set(self.weights(net))
        return any(slot.tensor in masked for slot in (*symmetry.writers, *symmetry.readers))

    def pruned(self) -> nn.Module:
        """With equal shares, in order."""
        names = self.weights(self.net)
        expected = ExpectedLoss(self.net, self.batches, names, model=self.model)
        shares = dict.fromkeys(names, self.density)
        return expected.masked(shares, self.solver, self.zeros, ROUNDS)


@dataclass(frozen=True)
class UnitRequest(Request):
    """Units of axes will go.

    Args:
        target: what the pruned network may cost, in amounts: shares are of the network as given.
        min_units, round_to, cut: see `pruners.budgets.problems.request.Request`.
    """

    target: Target
    min_units: MinUnits
    round_to: int
    cut: Cut

    def axes(self, net: Network) -> list[str]:
        """Those whose units may go."""
        return [n for n, a in net.axes.items() if a.frozen is None and a.kind not in SPARED]

    def weights(self, net: Network) -> list[str]:
        """Those that read such an axis."""
        free = set(self.axes(net))
        return [
            name
            for name, tensor in net.tensors.items()
            if tensor.role == "weight"
            and tensor.input_dim is not None
            and free.intersection(atoms(tensor.dims[tensor.input_dim]))
        ]

    def concerns(self, net: Network, symmetry: Symmetry) -> bool:
        """Whether units of the axis may go."""
        return symmetry.axis in self.axes(net)

    def pruned(self) -> nn.Module:
        """By expected loss in one shot, refitted."""
        free, given = self.axes(self.net), base_scores(self.net)
        scores = {axis: given[axis] for axis in free if axis in given}
        asked = Widths(self.net, scores, self.target, self.min_units, self.round_to, self.cut)
        expected = ExpectedLoss(self.net, self.batches, model=self.model)
        kept = in_shots(asked, expected, "loss", 1)
        return cut_and_refitted(self.net, self.model, kept, self.batches)[1]
