"""Sums of products: what is summed over in a pair turns against each other, the rest passes."""

from __future__ import annotations

from typing import NamedTuple

from torch import fx

from graphs.axes.dims import atoms
from graphs.program.rescale import parameter_of
from graphs.rules.context import describe
from graphs.rules.labels import Contraction
from graphs.rules.registry import known_of
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.operands import ONES, Given, spent
from graphs.symmetries.passing.states import Same, State, Turned


def contract(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Sums of products; see `graphs.rules.labels`."""
    labels = known_of(node.target).labels
    found = labels(node, axis.rank) if labels else None
    if found is None:
        raise Blocked(f"no matrix passes {describe(node)}")
    met: dict[str, list[_Met]] = {}
    for factor, letters in found.factors:
        state = given.get(factor)
        if isinstance(state, Turned):
            for place, sides in state.places.items():
                met.setdefault(letters[place], []).append(_Met(factor, state, place, sides))
        elif state is not None:
            raise Blocked(f"equal numbers are multiplied with it by {describe(node)}")
    folds: dict[fx.Node, tuple[_Met, int]] = {}
    passed: dict[int, _Met] = {}
    for letter, here in met.items():
        if letter in found.result:
            passed[found.result.index(letter)] = _passing(axis, node, here)
        else:
            folds |= _paired(axis, node, here)
    bias = None if node.kwargs else found.addend and parameter_of(found.addend[0])
    for factor, _ in found.factors:
        state = given.get(factor)
        if not isinstance(state, Turned) or not state.slots:
            continue
        if factor not in folds:
            axis.spend(state, node)
            continue
        read, place = folds[factor]
        named = bias[0] if bias and not bias[1] and read.state.direct else None
        axis.spend(state, node, read.state.pending, place, named)
    if not passed:
        return None
    if len(passed) > 1:
        raise Blocked(f"it meets itself at {describe(node)}")
    ((where, one),) = passed.items()
    _mix(axis, one, found)
    makers = one.state.slots if one.node in axis.still else frozenset()
    needs: frozenset[str] = frozenset()
    if found.addend is not None:
        added = given.get(found.addend[0])
        needs = _added(axis, node, added, found.addend[1].find(found.result[where]), one)
        makers |= added.slots if makers and isinstance(added, Turned) else frozenset()
    alone = len(node.users) == 1
    return Turned({where: one.sides}, needs=needs, makers=makers if alone else frozenset())


class _Met(NamedTuple):
    """A factor of a contraction that runs along the axis at one of its places."""

    node: fx.Node
    state: Turned
    place: int
    sides: tuple[int, ...]


def _passing(axis: Along, node: fx.Node, here: list[_Met]) -> _Met:
    """The one factor whose units the result has."""
    if len(here) > 1:
        raise Blocked(f"its units are multiplied one by one by {describe(node)}")
    axis.settled(node, here[0].state)
    return here[0]


def _paired(axis: Along, node: fx.Node, here: list[_Met]) -> dict[fx.Node, tuple[_Met, int]]:
    """Two factors that are summed over turn against each other.

    Returns:
        weight → the scaled value that it reads, and where, for scales that wait.
    """
    if len(here) != 2:
        raise Blocked(f"its units are told apart by {describe(node)}")
    axis.relate(node, here[0].sides, here[1].sides, opposite=True)
    found = {}
    for one, partner in (here, here[::-1]):
        fold = one.state.pending
        if fold is None:
            continue
        if partner.node not in axis.still:
            raise Blocked(
                f"{fold.scale} differs from unit to unit, and what it scales at {fold.place} "
                f"is read by {describe(node)} and not by weights alone"
            )
        found[partner.node] = one, partner.place
    return found


def _mix(axis: Along, one: _Met, found: Contraction) -> None:
    """Note the axes that are summed over in a value whose units pass."""
    if one.node in axis.still:
        return
    labels = next(labels for factor, labels in found.factors if factor is one.node)
    for label, dim in zip(labels, axis.dims(one.node), strict=False):
        if label not in found.result:
            axis.mixed.update(atoms(dim))


def _added(
    axis: Along, node: fx.Node, state: State | None, place: int, one: _Met
) -> frozenset[str]:
    """What an addend asks of M: nothing where it runs along the axis and turns as well."""
    if not isinstance(state, Turned):
        return frozenset() if isinstance(state, Same) and state.zero else ONES
    sides = state.places.get(place)
    if sides is None:
        raise Blocked(f"no matrix passes {describe(node)}")
    axis.relate(node, one.sides, sides)
    if state.slots:
        axis.spend(state, node)
    return frozenset()


def attention(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Queries and keys turn against each other, values pass."""
    query, key, value = node.args[:3]
    if set(given) - {query, key, value}:
        raise Blocked(f"no matrix passes {describe(node)}")
    last = {}
    for operand, state in given.items():
        if not isinstance(state, Turned) or set(state.places) != {axis.rank(operand) - 1}:
            raise Blocked(f"attention weighs its units one by one: {describe(node)}")
        state = axis.settled(node, state)
        spent(axis, node, [(operand, state)])
        last[operand] = state.places[axis.rank(operand) - 1]
    if (query in last) is not (key in last):
        raise Blocked(f"no matrix passes {describe(node)}")
    if query in last:
        axis.relate(node, last[query], last[key], opposite=True)
    return Turned({axis.rank(node) - 1: last[value]}) if value in last else None
