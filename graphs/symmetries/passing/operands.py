"""What operators have in common: their operands along an axis, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from graphs.rules.registry import known_of
from graphs.symmetries.passing.along import Along
from graphs.symmetries.passing.states import Same, State, Turned

Given = Mapping[fx.Node, State]


Places = dict[int, tuple[int, ...]]


Handler = Callable[[Along, fx.Node, Given], State | None]


ONES = frozenset(("ones", "orthogonal"))


ORTHOGONAL = frozenset(("orthogonal",))


def turned_operands(given: Given) -> list[tuple[fx.Node, Turned]]:
    """The operands that are multiplied by M."""
    return [(node, state) for node, state in given.items() if isinstance(state, Turned)]


def spent(axis: Along, node: fx.Node, operands: list[tuple[fx.Node, Turned]]) -> frozenset[Any]:
    """Slots of the result: of parameters alone they stay open, else they are settled to turn."""
    if node in axis.still:
        return frozenset().union(*(state.slots for _, state in operands))
    for _, state in operands:
        if state.slots:
            axis.spend(state, node)
    return frozenset()


def needs_of(operands: list[tuple[fx.Node, Turned]], more: frozenset[str]) -> frozenset[str]:
    """What M must be for all operands, and for more."""
    return more.union(*(state.needs for _, state in operands))


def kept(node: fx.Node, state: Turned) -> frozenset[Any]:
    """The makers of a value, as long as nothing but this operator sees it."""
    return state.makers if len(node.users) == 1 else frozenset()


def broadcast(axis: Along, node: fx.Node, operand: fx.Node, state: Turned) -> Places:
    """Places in the result of operands that are aligned at the right."""
    shift = axis.rank(node) - axis.rank(operand)
    return {i + shift: sides for i, sides in state.places.items()}


def same(given: Given) -> State | None:
    """The result where no operand is turned: the same for all units, if it runs along the axis."""
    held = [s for s in given.values() if isinstance(s, Same)]
    return Same(all(s.zero for s in held)) if held else None


def copies(node: fx.Node) -> bool:
    """Whether an operator copies entries, in evaluation mode."""
    known = known_of(node.target)
    told = known.entries or known.picks or known.training is not None
    return bool(told) or "kept" in known.numbers
