"""One axis of a program: what the values along it do when M x is put in place of x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Dim, atoms
from graphs.relate.structure import Structure
from graphs.rules.context import describe
from graphs.symmetries.nodes import dims_of
from graphs.symmetries.passing.parity import Parity
from graphs.symmetries.passing.states import Found, Pending, State, Turned, Use, parts
from graphs.symmetries.values import Slot


class Blocked(Exception):
    """A value cannot be turned; the message says why."""


class Along:
    """What is known of one axis while its operators are visited in order.

    Args:
        net: the network.
        axis: name of the axis.
        still: nodes that depend on no input of the model.

    Attributes:
        states: node → what it does along the axis; none where it does not run along it.
        found: what was collected.
        beside: axes that stand beside the axis in every value so far; None before the first.
        mixed: axes that some operator sums over while the axis stays.
    """

    def __init__(self, net: Structure, axis: str, still: frozenset[fx.Node]) -> None:
        self.net, self.axis, self.still = net, axis, still
        self.parity, self.found = Parity(), Found()
        self.states: dict[fx.Node, State] = {}
        self.beside: frozenset[str] | None = None
        self.mixed: set[str] = set()

    def dims(self, node: fx.Node) -> tuple[Dim, ...]:
        """Dimensions of a value; of a call with several results, one after another."""
        return dims_of(self.net, node)

    def rank(self, node: fx.Node) -> int:
        """Number of dimensions of a value."""
        held = node.meta.get("constant", node.meta.get("val"))
        return len(held.shape) if isinstance(held, torch.Tensor) else len(self.dims(node))

    def places(self, node: fx.Node) -> list[int]:
        """Dimensions of a value that run along the axis."""
        return [i for i, dim in enumerate(self.dims(node)) if self.axis in atoms(dim)]

    def enter(self, node: fx.Node) -> None:
        """A parameter, of which it is still open whether it turns or scales."""
        name, places, slots = str(node.target), {}, []
        for i in self.places(node):
            here = [Slot(name, i, k) for k in range(parts(self.dims(node)[i], self.axis))]
            for slot in here:
                if slot not in self.found.sides:
                    self.found.sides[slot] = self.parity.fresh()
            places[i] = tuple(self.found.sides[slot] for slot in here)
            slots += here
        if places:
            self.states[node] = Turned(places, frozenset(slots))

    def leave(self, node: fx.Node, state: State | None) -> None:
        """What a call gives."""
        if state is None:
            return
        self.states[node] = state
        if isinstance(state, Turned) and node not in self.still:
            self._need(state.needs)
            self.states[node] = replace(state, needs=frozenset(), slots=frozenset())
            names = {a for dim in self.dims(node) for a in atoms(dim)} - {self.axis}
            self.beside = frozenset(names if self.beside is None else self.beside & names)

    def _need(self, needs: frozenset[str]) -> None:
        self.found.needs.update(needs)

    def spend(
        self,
        state: Turned,
        node: fx.Node,
        fold: Pending | None = None,
        place: int | None = None,
        bias: str | None = None,
    ) -> None:
        """Settle that the parameters of a value turn.

        Args:
            state: of the value.
            node: the call that uses it.
            fold: the scale of what it reads at a place.
            place: that place.
            bias: name of what is added to the result.

        Raises:
            Blocked: it cannot be turned.
        """
        if state.broken:
            raise Blocked(state.broken)
        self._need(state.needs)
        here = state.places[place] if place is not None else ()
        if fold is not None and len(state.places) > 1 and len(state.slots) > len(state.places):
            raise Blocked(f"a product of parameters reads what {fold.place} scales")
        for slot in state.slots:
            reads = len(state.places) == 1 or self.found.sides[slot] in here
            use = Use(node, fold, bias=bias) if fold and reads else Use(node)
            self.found.uses.setdefault(slot, []).append(use)

    def relate(
        self, node: fx.Node, a: Sequence[int], b: Sequence[int], *, opposite: bool = False
    ) -> None:
        """State that two places turn alike, part by part.

        Raises:
            Blocked: they have other parts.
        """
        if len(a) != len(b):
            raise Blocked(f"parts of it are laid out in two ways at {describe(node)}")
        for first, second in zip(a, b, strict=True):
            self.parity.relate(first, second, opposite=opposite)

    def settled(self, node: fx.Node, state: Turned) -> Turned:
        """A value without a scale that waits: it goes into the weights that made the value.

        Raises:
            Blocked: other things made it.
        """
        if state.pending is None:
            return state
        fold = state.pending
        if not state.makers:
            raise Blocked(
                f"{fold.scale} differs from unit to unit, and what it scales at {fold.place} goes "
                f"to {describe(node)} and not to weights alone"
            )
        for slot in state.makers:
            uses = self.found.uses[slot]
            uses[-1] = replace(uses[-1], fold=fold, into="writers")
        return replace(state, pending=None, makers=frozenset())

    def value(self, name: str | None) -> torch.Tensor | None:
        """A tensor of the network, None where it has no values here."""
        held = self.net.tensors.get(name) if name is not None else None
        return None if held is None or held.value.is_meta else held.value


def numbers_of(node: fx.Node) -> list[Any]:
    """The plain numbers among the first two operands."""
    return [a for a in node.args[:2] if isinstance(a, int | float)]
