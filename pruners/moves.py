"""Moves: what is done to a network that leaves its function as it is, written down to be replayed.

    moves.apply(net)      a Network of the same function

They name tensors and axes, so they replay on any checkpoint of the architecture: norms that have
scales there alone are folded as well. One whose scales meet tied weights that stay tied is refused.
Matrices and orders are tensors, kept in a file beside the plan that names their digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from graphs.tools.digests import tensors_digest

if TYPE_CHECKING:
    from graphs import Network

TURNS, ORDERS = "turns", "orders"
"""First part of the name of a tensor; the axis is the rest."""


class MovesError(ValueError):
    """Moves that cannot be read, or that a network does not allow."""


@dataclass(frozen=True)
class Moves:
    """What is done, in this order: ties undone, norms folded, axes turned, units reordered.

    Args:
        unties: state-dict names that get values of their own (`Network.untie`).
        folds: axes whose norms are folded (`Network.fold_norms`).
        turns: axis → shape of the matrix that turns it (`Network.rotate`).
        orders: axis → number of units that are reordered (`Network.permute`).
        digest: of the matrices and orders; "" where there are none.
        tensors: "turns/AXIS" → matrix, float64, and "orders/AXIS" → permutation, int64; empty where
            only the text was read.
    """

    unties: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    turns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    orders: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        unties: Sequence[str] = (),
        folds: Sequence[str] = (),
        turns: Mapping[str, torch.Tensor] | None = None,
        orders: Mapping[str, torch.Tensor] | None = None,
    ) -> Moves:
        """Moves with their matrices and orders, on the CPU.

        Args:
            unties, folds: see the class.
            turns: axis → matrix (units, units), or (units of another axis, units, units).
            orders: axis → permutation of its units.
        """
        turning = {axis: matrix.detach().cpu().double() for axis, matrix in (turns or {}).items()}
        ordering = {axis: order.detach().cpu().long() for axis, order in (orders or {}).items()}
        # Laid out as a file gives them back: products of others round differently.
        tensors = {f"{TURNS}/{axis}": value.contiguous() for axis, value in turning.items()}
        tensors |= {f"{ORDERS}/{axis}": value.contiguous() for axis, value in ordering.items()}
        return cls(
            tuple(unties),
            tuple(folds),
            {axis: tuple(matrix.shape) for axis, matrix in turning.items()},
            {axis: len(order) for axis, order in ordering.items()},
            _digest(tensors),
            tensors,
        )

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return bool(self.unties or self.folds or self.turns or self.orders)

    @property
    def names(self) -> list[str]:
        """Names of the tensors that belong to it."""
        found = [f"{TURNS}/{axis}" for axis in self.turns]
        return found + [f"{ORDERS}/{axis}" for axis in self.orders]

    @property
    def bare(self) -> bool:
        """Whether matrices or orders are missing: only the text was read."""
        return any(name not in self.tensors for name in self.names)

    def then(self, other: Moves) -> Moves:
        """Both as one.

        Raises:
            ValueError: the second ones undo ties, fold, or turn what the first ones reordered.
        """
        if not self:
            return other
        if other.unties or other.folds or {*self.turns, *self.orders} & {*other.turns}:
            raise ValueError("moves cannot undo ties, fold or turn again after others")
        tensors = {**self.tensors, **other.tensors}
        for axis in {*self.orders} & {*other.orders}:
            name = f"{ORDERS}/{axis}"
            tensors[name] = self.tensors[name][other.tensors[name]]
        return replace(
            self,
            turns={**self.turns, **other.turns},
            orders={**self.orders, **other.orders},
            digest=_digest(tensors),
            tensors=tensors,
        )

    def holding(self, tensors: Mapping[str, torch.Tensor]) -> Moves:
        """The same moves with their matrices and orders.

        Raises:
            MovesError: one is missing, or they are others than those that the digest is of.
        """
        missing = [name for name in self.names if name not in tensors]
        if missing:
            raise MovesError(f"{missing[0]!r} is missing among the matrices of the transformation")
        own = {name: tensors[name] for name in self.names}
        shapes = {f"{TURNS}/{axis}": shape for axis, shape in self.turns.items()}
        shapes |= {f"{ORDERS}/{axis}": (units,) for axis, units in self.orders.items()}
        if _digest(own) != self.digest or shapes != {n: tuple(t.shape) for n, t in own.items()}:
            raise MovesError(
                "the matrices of the transformation are others than those that the plan was made "
                f"with (digest {self.digest}); keep the file that was saved with the plan, and its "
                "turns and orders as they are"
            )
        return replace(self, tensors=own)

    def apply(self, net: Network) -> Network:
        """A network of the same function.

        Args:
            net: of the architecture that the moves were made for; left as it was. Norms that stand
                before a turn are folded, whether the moves name them or not.

        Raises:
            MovesError: matrices are missing, or the network does not allow a move; says why.
        """
        if self.bare:
            raise MovesError(
                "the plan turns axes by matrices that are not here: they lie in the file that "
                "was saved beside it, *.moves.safetensors; read the plan with Plan.load"
            )
        try:
            for name in self.unties:
                net = net.untie(name)
            for axis in dict.fromkeys((*self.folds, *self.turns)):
                net = net.fold_norms(axis)
            for axis in self.turns:
                net = net.rotate(axis, self.tensors[f"{TURNS}/{axis}"])
            for axis in self.orders:
                net = net.permute(axis, self.tensors[f"{ORDERS}/{axis}"])
        except (KeyError, ValueError) as error:
            raise MovesError(
                f"this network does not allow the transformation of the plan: {error.args[0]}; "
                "make a new plan for it"
            ) from error
        return net

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the tensors."""
        return {
            "unties": list(self.unties),
            "folds": list(self.folds),
            TURNS: {axis: list(shape) for axis, shape in self.turns.items()},
            ORDERS: dict(self.orders),
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, content: Any) -> Moves:
        """Read what `to_json` wrote; the tensors are to be added by `holding`.

        Raises:
            MovesError: it is something else.
        """
        try:
            return cls(
                tuple(_texts(content["unties"])),
                tuple(_texts(content["folds"])),
                {axis: tuple(map(int, shape)) for axis, shape in content[TURNS].items()},
                {axis: int(units) for axis, units in content[ORDERS].items()},
                str(content["digest"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MovesError(f'"moves" of the plan cannot be read ({error!r})') from error


def _texts(names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"a list of names is needed (got {names!r})")
    return names


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    return tensors_digest(sorted(tensors.items())) if tensors else ""
