"""Numbers for all units: squares ask for orthogonal M, means for one that keeps ones."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from graphs.rules.context import describe
from graphs.rules.labels import named_arguments
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.operands import ONES, ORTHOGONAL, Given, same, spent
from graphs.symmetries.passing.states import Same, Squared, State, Turned


def _gone(axis: Along, node: fx.Node, operand: fx.Node) -> set[int]:
    """The dimensions that a reduction takes away."""
    rank, dim = axis.rank(operand), named_arguments(node).get("dim")
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return set(range(rank))
    return {d % rank for d in (dim if isinstance(dim, list | tuple) else (dim,))}


def _remaining(axis: Along, node: fx.Node, state: Turned) -> Turned:
    made = axis.places(node)
    if len(made) != len(state.places):
        raise Blocked(f"no matrix passes {describe(node)}")
    places = dict(zip(made, state.places.values(), strict=True))
    return Turned(places, state.slots, state.needs, state.pending, direct=False)


def reduce(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A sum or mean: over units, of squares or of the values; or over something else."""
    operand, state = next(iter(given.items()))
    if isinstance(state, Same):
        return same(given) if axis.places(node) else None
    places = state.dims if isinstance(state, Squared) else frozenset(state.places)
    gone = _gone(axis, node, operand) & places
    if not gone:
        if isinstance(state, Squared):
            raise Blocked(f"squares of its units are used one by one: {describe(node)}")
        slots = spent(axis, node, [(operand, state)])
        return replace(_remaining(axis, node, state), slots=slots)
    _statistic(axis, node, operand, state)
    return None


def _statistic(axis: Along, node: fx.Node, operand: fx.Node, state: State) -> None:
    """A number for all units: of squares for orthogonal M, of values where M keeps ones."""
    if isinstance(state, Turned):
        if state.pending or node in axis.still:
            raise Blocked(f"no matrix passes {describe(node)}")
        spent(axis, node, [(operand, state)])
        axis.found.needs.update(ONES)
    axis.found.needs.update(ORTHOGONAL)


def variance(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Variance over units, for M that keeps ones."""
    operand, state = next(iter(given.items()))
    if not isinstance(state, Turned) or not _gone(axis, node, operand) & set(state.places):
        raise Blocked(f"no matrix passes {describe(node)}")
    _statistic(axis, node, operand, state)
    return None


def length(axis: Along, node: fx.Node, given: Given) -> State | None:
    """The Euclidean length over units."""
    order = node.args[1] if len(node.args) > 1 else 2
    operand, state = next(iter(given.items()))
    turned = isinstance(state, Turned) and not state.pending and node not in axis.still
    if order != 2 or not turned or not _gone(axis, node, operand) & set(state.places):  # type: ignore[union-attr]
        raise Blocked(f"no matrix passes {describe(node)}")
    spent(axis, node, [(operand, state)])  # type: ignore[list-item]
    axis.found.needs.update(ORTHOGONAL)
    return None
