"""Transformations: changes of a network that keep its function and make it easier to prune.

found = parse({"rotate": {"descent": 100}}).find(request)
found.moves.apply(net)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from graphs.symmetries.values import Symmetry
from graphs.tools.documents import told
from graphs.tools.files import read_tensors, write_tensors
from graphs.tools.registry import Registry
from pruners.moves import Moves
from pruners.transformations.requests import Request

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class Found:
    """A transformation of one network.

    Args:
        moves: what is done; nothing where nothing helps.
        notes: sentences for people: what was done, and what could not be.
        figures: what was measured, plain JSON values.
    """

    moves: Moves = field(default_factory=Moves)
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def then(self, other: Found) -> Found:
        """Both, one after the other."""
        moves = self.moves.then(other.moves)
        return Found(moves, (*self.notes, *other.notes), {**self.figures, **other.figures})

    def save(self, path: Path) -> None:
        """Write one file, whole or not at all: matrices and orders, and the rest as text."""
        told = {"moves": self.moves.to_json(), "notes": self.notes, "figures": self.figures}
        write_tensors(path, self.moves.tensors, told)

    @classmethod
    def load(cls, path: Path) -> Found:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged.
        """
        tensors, found = read_tensors(path)
        with told(path, "delete it, and it is found again"):
            moves = Moves.from_json(found["moves"]).holding(tensors)
            return cls(moves, tuple(found["notes"]), found["figures"])


class Transformation(Protocol):
    """A way to make a network easy to prune.

    The laws: the moves keep the function to rounding; the same input gives the same moves, and
    another order of the units of an axis the same network in that order.
    """

    def find(self, request: Request) -> Found:
        """The moves for a network, and what to say about them."""


TRANSFORMATIONS: Registry[Callable[..., Transformation]] = Registry("transformation")
"""Name → what makes the transformation from its options."""

transformation = TRANSFORMATIONS.register


def in_order(request: Request, chosen: Mapping[str, Transformation]) -> tuple[Found, Request]:
    """What transformations find one after the other, and the request after them.

    Args:
        request: what is to become easy.
        chosen: by name, in order.

    Raises:
        ValueError: one cannot follow those before it; names it.
    """
    found = Found()
    for name, one in chosen.items():
        more = one.find(request)
        try:
            found = found.then(more)
        except ValueError as error:
            raise ValueError(
                f'transformation "{name}" cannot follow those before it: {error}; name it first, '
                f"or alone (asked: {', '.join(chosen)})"
            ) from error
        request = request.after(more.moves)
    return found, request


def prepared(request: Request) -> tuple[Network, Moves]:
    """The network with the norms folded and the ties undone that matrices on its axes ask for.

    Args:
        request: what is to become easy; axes that do not concern it are left alone.
    """
    net, unties, folds = request.net, list[str](), list[str]()
    for found in _matrices(net, request):
        unties += [one.name for one in found.unties if one.name not in unties]
    for name in unties:
        net = net.untie(name)
    for found in _matrices(net, request):
        if found.folds and not found.unties:
            net, folds = net.fold_norms(found.axis), [*folds, found.axis]
    return net, Moves.of(unties, folds)


def _matrices(net: Network, request: Request) -> list[Symmetry]:
    """Symmetries by matrices that concern a request."""
    found = net.symmetries().values()
    return [one for one in found if one.turns and request.concerns(net, one)]
