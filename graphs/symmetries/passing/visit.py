"""What becomes of a turned value at an operator: one function for each word of `turns=`.

Every function takes the axis, the node and the states of its operands that run along the axis, and
returns the state of the result; None where that does not run along it. It raises `Blocked` where no
matrix, or none that it can tell of, may pass.
"""

from __future__ import annotations

import operator

from torch import fx

from graphs.relate.exactness import aliases, writes
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
    """The state of a call's result; of what it writes to as well.

    Raises:
        Blocked: the operator does not commute with the matrices of any group, or is not known to.
    """
    state = _state(axis, node, given)
    if writes(node.target):
        _write(axis, node, state)
    return state


def _write(axis: Along, node: fx.Node, state: State | None) -> None:
    """Let an operand that is changed in place be what the result is.

    Raises:
        Blocked: other values share its memory, of which that is not followed.
    """
    written = node.args[0]
    assert isinstance(written, fx.Node)
    before = axis.states.get(written)
    turned = isinstance(before, Turned) and isinstance(state, Turned)
    if before is state or (turned and not before.pending and not state.pending):  # type: ignore[union-attr]
        return
    shared = [n for n in written.users if n is not node and aliases(n)]
    if aliases(written) or shared or state is None or written in axis.still:
        raise Blocked(f"it is written to in place at {describe(node)}")
    axis.states[written] = state


def _state(axis: Along, node: fx.Node, given: Given) -> State | None:
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
