"""Norms: M passes where they tell units apart by their scale only, and that can be folded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx

from graphs.program.rescale import parameter_of
from graphs.rules.context import describe
from graphs.rules.labels import named_arguments
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.entries import scaled, uniform
from graphs.symmetries.passing.operands import ONES, ORTHOGONAL, Given, kept, spent
from graphs.symmetries.passing.states import Pending, State, Turned


def norm(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A norm over the trailing dimensions, with its scale and shift."""
    named = named_arguments(node)
    x = node.args[0]
    state = given.get(x)
    rank = axis.rank(x)
    over = range(rank - len(named["normalized_shape"]), rank)
    if not isinstance(state, Turned) or not set(state.places) <= set(over) or node in axis.still:
        raise Blocked(f"its units are normed apart from each other by {describe(node)}")
    state = axis.settled(node, state)
    spent(axis, node, [(x, state)])
    layer = "layer_norm" in str(node.target)
    axis.found.needs.update(ONES if layer else ORTHOGONAL)
    scale, shift = named.get("weight"), named.get("bias")
    result = Turned(dict(state.places))
    if isinstance(scale, fx.Node):
        result = scaled(axis, node, (x, state), scale)
        result = replace(result, makers=frozenset())
    if not isinstance(shift, fx.Node):
        return result
    if result.pending is not None:
        found = parameter_of(shift)
        if found is None or found[1]:
            raise Blocked(f"the shift of {describe(node)} is no parameter alone")
        axis.found.scales.add(found[0])
        return replace(result, pending=replace(result.pending, shift=found[0]))
    other = given.get(shift)
    if not isinstance(other, Turned):
        raise Blocked(f"no matrix passes {describe(node)}")
    for sides, more in zip(state.places.values(), other.places.values(), strict=True):
        axis.relate(node, sides, more)
    axis.spend(other, node)
    return result


def batch_norm(axis: Along, node: fx.Node, given: Given) -> State | None:
    """In evaluation mode a scale and a shift of every channel."""
    x, weight, bias, mean, variance = node.args[:5]
    state = given.get(x)
    names = [n.target if isinstance(n, fx.Node) else None for n in (weight, bias, mean, variance)]
    plain = all(n is None or str(n) in axis.net.tensors for n in names)
    channels = isinstance(state, Turned) and set(state.places) == {1}
    if not channels or not plain or mean is None or node in axis.still:
        raise Blocked(f"no matrix passes {describe(node)}")
    assert isinstance(state, Turned)
    state = axis.settled(node, state) if state.pending else state
    scale, shift, average, spread = (None if n is None else str(n) for n in names)
    epsilon = float(node.args[7])
    axis.found.scales.update(n for n in (scale, spread) if n)
    sides = state.places[1]
    for operand in (bias, mean):
        other = given.get(operand) if isinstance(operand, fx.Node) else None
        if isinstance(other, Turned):
            axis.relate(node, sides, other.places[0])
            axis.spend(other, node)
    factors = [axis.value(n) for n in (scale, spread) if n]
    result = Turned({1: sides}, makers=kept(node, state))
    if all(v is not None and uniform(v) for v in factors):
        return result
    pending = Pending(scale, 0.0, shift, describe(node), average, spread, epsilon)
    return axis.settled(node, replace(result, pending=pending, makers=_kept_at(node, state, x)))


def _kept_at(node: fx.Node, state: Turned, operand: Any) -> frozenset[Any]:
    return state.makers if len(operand.users) == 1 else frozenset()
