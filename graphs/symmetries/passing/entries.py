"""Entry by entry: sums pass M, products only with what does not run along the axis."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from graphs.program.rescale import parameter_of
from graphs.rules.context import describe
from graphs.rules.registry import operator_name
from graphs.symmetries.passing.along import Along, Blocked, numbers_of
from graphs.symmetries.passing.operands import (
    ONES,
    Given,
    broadcast,
    kept,
    needs_of,
    same,
    spent,
    turned_operands,
)
from graphs.symmetries.passing.states import Pending, Same, Squared, State, Turned


def add(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Sums: all that runs along the axis turns alike, what does not is a multiple of ones."""
    operands = turned_operands(given)
    if len(operands) == 2:
        shifted = _shifted(axis, node, operands)
        if shifted is not None:
            return shifted
    operands = [(n, axis.settled(node, s)) for n, s in operands]
    if not operands:
        return same(given)
    places = broadcast(axis, node, *operands[0])
    for operand, state in operands[1:]:
        for place, sides in broadcast(axis, node, operand, state).items():
            if place not in places:
                raise Blocked(f"it meets itself at {describe(node)}")
            axis.relate(node, places[place], sides)
    others = [n for n in node.args[:2] if isinstance(n, fx.Node) and n not in dict(operands)]
    moved = [n for n in others if not (isinstance(s := given.get(n), Same) and s.zero)]
    moved = [n for n in moved if not isinstance(given.get(n), Turned)]
    needs = ONES if moved or any(numbers_of(node)) else frozenset()
    slots = spent(axis, node, operands)
    return Turned(places, slots, needs_of(operands, needs))


def _shifted(axis: Along, node: fx.Node, operands: list[tuple[fx.Node, Turned]]) -> Turned | None:
    """γ x + β, spelled out, where γ waits to be folded; None where this is no such sum."""
    for (x, state), (other, added) in (operands, operands[::-1]):
        fold = state.pending
        if fold is None or fold.shift or fold.mean or x in axis.still or other not in axis.still:
            continue
        found = parameter_of(other)
        if found is None or found[1] or node.kwargs or not added.slots:
            continue
        if operator_name(node.target) != "add":
            continue
        axis.found.scales.add(found[0])
        places = broadcast(axis, node, x, state)
        return Turned(places, pending=replace(fold, shift=found[0]), makers=kept(node, state))
    return None


def multiply(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Products with what does not run along the axis, squares, and scales of norms."""
    operands = turned_operands(given)
    if not operands:
        return same(given)
    if node.args[0] is node.args[1]:
        return square(axis, node, given)
    if len(operands) == 2:
        still = [o for o in operands if o[0] in axis.still]
        moved = [o for o in operands if o[0] not in axis.still]
        if len(still) != 1:
            raise Blocked(f"its units are multiplied one by one by {describe(node)}")
        return scaled(axis, node, moved[0], still[0][0])
    operand, state = operands[0]
    slots = spent(axis, node, operands)
    makers = kept(node, state)
    places = broadcast(axis, node, operand, state)
    return Turned(places, slots, state.needs, state.pending, direct=False, makers=makers)


def scaled(axis: Along, node: fx.Node, operand: tuple[fx.Node, Turned], factor: fx.Node) -> Turned:
    """A value whose units are scaled by a parameter."""
    x, state = operand
    if state.pending is not None:
        state = axis.settled(node, state)
    places, makers = broadcast(axis, node, x, state), kept(node, state)
    found = parameter_of(factor)
    if found is None:
        raise Blocked(f"its units are multiplied one by one by {describe(node)}")
    name, offset = found
    axis.found.scales.add(name)
    value = axis.value(name)
    if value is not None and uniform(value):
        return Turned(places, makers=makers)
    if max(axis.net.tensors[name].value.shape) != axis.net.tensors[name].value.numel():
        raise Blocked(f"the scale {name} runs along other dimensions as well")
    return Turned(places, pending=Pending(name, offset, None, describe(node)), makers=makers)


def uniform(value: torch.Tensor) -> bool:
    """Whether all entries are the same number."""
    return value.numel() > 0 and bool((value == value.flatten()[0]).all())


def divide(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A quotient by what does not run along the axis."""
    operands = turned_operands(given)
    if not operands:
        return same(given)
    if node.args[1] in dict(operands):
        raise Blocked(f"its units are divided one by one by {describe(node)}")
    return multiply(axis, node, given)


def square(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Squares, of which only the sum over all units stays."""
    exponent = node.args[1] if operator_name(node.target) == "pow" else 2
    operands = turned_operands(given)
    if not operands:
        return same(given)
    if exponent != 2 or len(operands) != 1 or operands[0][1].pending:
        raise Blocked(f"no matrix passes {describe(node)}")
    if node in axis.still:
        raise Blocked(f"no matrix passes {describe(node)}")
    spent(axis, node, operands)
    return Squared(frozenset(broadcast(axis, node, *operands[0])))
