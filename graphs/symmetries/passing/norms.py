"""Norms: M passes where they tell units apart by their scale only, and that can be folded."""

from __future__ import annotations

from dataclasses import replace

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
    named = named_arguments(node)
    state = given.get(named["input"])
    parameters = [named.get(n) for n in ("weight", "bias", "running_mean", "running_var")]
    names = [None if n is None else str(n.target) for n in parameters]
    known = None not in names[2:] and all(n is None or n in axis.net.tensors for n in names)
    evaluated = known and named["training"] is False and node not in axis.still
    if not isinstance(state, Turned) or set(state.places) != {1} or not evaluated:
        raise Blocked(f"no matrix passes {describe(node)}")
    state = axis.settled(node, state)
    scale, shift, mean, variance = names
    axis.found.scales.update(n for n in (scale, variance) if n is not None)
    for operand in parameters[1:3]:
        other = given.get(operand) if operand is not None else None
        if isinstance(other, Turned):
            axis.relate(node, state.places[1], other.places[0])
            axis.spend(other, node)
    result = Turned({1: state.places[1]}, makers=kept(node, state))
    factors = [axis.value(n) for n in (scale, variance) if n is not None]
    if all(v is not None and uniform(v) for v in factors):
        return result
    pending = Pending(scale, 0.0, shift, describe(node), mean, variance, float(named["eps"]))
    return axis.settled(node, replace(result, pending=pending, makers=state.makers))
