"""What becomes of a turned value at an operator: one function for each word of `turns=`.

Every function takes the axis, the node and the states of its operands that run along the axis, and
returns the state of the result; None where that does not run along it. It raises `Blocked` where no
matrix, or none that it can tell of, may pass.
"""

from __future__ import annotations

import operator

from torch import fx

from graphs.rules.context import describe
from graphs.rules.registry import known_of
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.contractions import attention, contract
from graphs.symmetries.passing.entries import add, divide, multiply, square
from graphs.symmetries.passing.moves import choose, each, join, made, pad, piece
from graphs.symmetries.passing.norms import batch_norm, norm
from graphs.symmetries.passing.operands import Given, Handler
from graphs.symmetries.passing.reductions import length, reduce, variance
from graphs.symmetries.passing.states import Squared, State, Turned


def visit(axis: Along, node: fx.Node, given: Given) -> State | None:
    """The state of a call's result.

    Raises:
        Blocked: the operator does not commute with the matrices of any group, or is not known to.
    """
    for state in given.values():
        if isinstance(state, Turned) and state.broken:
            raise Blocked(state.broken)
    if node.target is operator.getitem:
        return piece(axis, node, given)
    word = known_of(node.target).turns
    squared = any(isinstance(state, Squared) for state in given.values())
    if squared and word != "reduce":
        if known_of(node.target).entries == "same":
            return next(iter(given.values()))
        raise Blocked(f"squares of its units are used one by one: {describe(node)}")
    if word not in HANDLERS:
        raise Blocked(f"no matrix passes {describe(node)}")
    return HANDLERS[word](axis, node, given)


HANDLERS: dict[str, Handler] = {
    "each": each,
    "sum": add,
    "product": multiply,
    "quotient": divide,
    "square": square,
    "join": join,
    "choice": choose,
    "pad": pad,
    "reduce": reduce,
    "variance": variance,
    "length": length,
    "contract": contract,
    "attention": attention,
    "norm": norm,
    "batch norm": batch_norm,
    "made": made,
}
