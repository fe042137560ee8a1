"""Values moved, cut, put side by side or chosen among: M passes where units stay together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Sum, size
from graphs.relate.exactness import holds_values
from graphs.rules.context import describe
from graphs.rules.labels import named_arguments
from graphs.rules.registry import known_of, operator_name
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.operands import (
    Given,
    Places,
    copies,
    kept,
    needs_of,
    same,
    spent,
    turned_operands,
)
from graphs.symmetries.passing.states import Same, State, Turned, parts

_PRIMES = (2, 3, 5, 7, 11, 13)


def each(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Copies of entries, or a linear map of other dimensions."""
    operands = turned_operands(given)
    made = axis.places(node)
    if not operands:
        zero = bool(given) and all(isinstance(s, Same) and s.zero for s in given.values())
        return Same(zero) if made else None
    if operator_name(node.target).endswith("_as"):
        operands = [o for o in operands if o[0] is node.args[0]]  # of the other, only the shape
    if len(operands) != 1:
        raise Blocked(f"no matrix passes {describe(node)}")
    operand, state = operands[0]
    slots = spent(axis, node, operands) if made else frozenset()
    if not made:
        if known_of(node.target).picks != "place":
            raise Blocked(f"no matrix passes {describe(node)}")
        return None
    places = _moved(axis, node, operand, state, made)
    makers = kept(node, state)
    direct = state.direct and copies(node)
    return Turned(places, slots, state.needs, state.pending, direct, makers)


def _moved(axis: Along, node: fx.Node, operand: fx.Node, state: Turned, made: list[int]) -> Places:
    """Where the places of an operand are in the result."""
    if len(state.places) > 1:
        return _transposed(axis, node, operand, state)
    ((place, sides),) = state.places.items()
    counts = [parts(axis.dims(node)[i], axis.axis) for i in made]
    if all(count == len(sides) for count in counts):
        return dict.fromkeys(made, sides)
    if sum(counts) == len(sides):
        rest = iter(sides)
        return {i: tuple(next(rest) for _ in range(n)) for i, n in zip(made, counts, strict=True)}
    start = named_arguments(node).get("start")
    known = start is None or isinstance(start, int)
    if known and len(made) == 1 and operator_name(node.target) in ("slice", "narrow"):
        whole = axis.dims(operand)[place]
        first = _parts_before(axis, whole, start or 0)
        if first is not None:
            return {made[0]: sides[first : first + counts[0]]}
    raise Blocked(f"parts of it are laid out in another way by {describe(node)}")


def _parts_before(axis: Along, dim: Any, position: int) -> int | None:
    """Parts of a concatenation that lie before a position; None where it is no seam."""
    if position < 0:
        position += size(dim, axis.net.source.axes)
    before = 0
    for term in dim.terms if isinstance(dim, Sum) else (dim,):
        if position <= 0:
            break
        position -= size(term, axis.net.source.axes)
        before += parts(term, axis.axis)
    return before if position == 0 else None


def _transposed(axis: Along, node: fx.Node, operand: fx.Node, state: Turned) -> Places:
    """Places of a matrix over one axis twice, which only its place tells apart."""
    if not known_of(node.target).entries:
        raise Blocked(f"it meets itself at {describe(node)}")
    probe = torch.empty(_PRIMES[: axis.rank(operand)], device="meta")
    rest = [probe if a is operand else a for a in node.args]
    order = tuple(node.target(*rest, **node.kwargs).shape)
    return {order.index(_PRIMES[i]): sides for i, sides in state.places.items()}


def piece(axis: Along, node: fx.Node, given: Given) -> State | None:
    """One of several results, whose dimensions stand one after another."""
    operand = node.args[0]
    assert isinstance(operand, fx.Node)
    state = given.get(operand)
    if not isinstance(state, Turned):
        return Same() if axis.places(node) else None
    before = sum(len(v.shape) for v in operand.meta["val"][: node.args[1]])
    here = range(before, before + axis.rank(node))
    places = {i - before: sides for i, sides in state.places.items() if i in here}
    return replace(state, places=places, makers=frozenset()) if places else None


def join(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Values side by side turn alike."""
    operands = turned_operands(given)
    waiting = {state.pending for _, state in operands}
    pending = waiting.pop() if len(waiting) == 1 else None
    if pending is None:
        operands = [(n, axis.settled(node, s)) for n, s in operands]
    if not operands:
        return same(given)
    for operand in node.all_input_nodes:
        part = copies(node) and operand not in given  # another part of a concatenation
        fine = part or operand in dict(operands) or _is_zero(axis, operand)
        if not fine and holds_values(operand):
            raise Blocked(f"other numbers stand beside it at {describe(node)}")
    made = axis.places(node)
    slots = spent(axis, node, operands)
    places: Places = {}
    counts = [parts(axis.dims(node)[i], axis.axis) for i in made]
    sides = [side for _, state in operands for s in state.places.values() for side in s]
    if len(made) == 1 and counts[0] == len(sides) and len(operands) > 1:
        places[made[0]] = tuple(sides)
    else:
        first = list(operands[0][1].places.values())
        if len(first) != 1 or len(made) != 1:
            raise Blocked(f"it meets itself at {describe(node)}")
        for _, state in operands[1:]:
            for other in state.places.values():
                axis.relate(node, first[0], other)
        places[made[0]] = first[0]
    plain = copies(node) and all(isinstance(state, Turned) for state in given.values())
    direct = plain and all(state.direct for _, state in operands)
    return Turned(places, slots, needs_of(operands, frozenset()), pending, direct)


def choose(axis: Along, node: fx.Node, given: Given) -> State | None:
    """One of two values by a condition that is the same for all units."""
    condition = node.args[0] if operator_name(node.target) == "where" else node.args[1]
    if isinstance(given.get(condition), Turned):
        raise Blocked(f"no matrix passes {describe(node)}")
    held = [a for a in (*node.args, *node.kwargs.values()) if a is not condition]
    other = [
        a
        for a in held
        if (isinstance(a, int | float) and a != 0)
        or (
            isinstance(a, fx.Node)
            and not isinstance(given.get(a), Turned)
            and not _is_zero(axis, a)
        )
    ]
    if other and turned_operands(given):
        raise Blocked(f"other numbers are put in its place by {describe(node)}")
    kept = {n: s for n, s in given.items() if isinstance(s, Turned)}
    return join(axis, node, kept)


def _is_zero(axis: Along, node: fx.Node) -> bool:
    state = axis.states.get(node)
    if isinstance(state, Same):
        return state.zero
    held = axis.net.program.constants.get(str(node.target))
    return isinstance(held, torch.Tensor) and not held.is_meta and not bool(held.any())


def pad(axis: Along, node: fx.Node, given: Given) -> State | None:
    """New positions of zeros beside the others."""
    if any(a not in (0, None) for a in node.args[2:] if isinstance(a, int | float)):
        raise Blocked(f"other numbers are put beside it by {describe(node)}")
    return each(axis, node, given)


def made(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Equal numbers."""
    return Same(known_of(node.target).zero == "zero") if axis.places(node) else None
