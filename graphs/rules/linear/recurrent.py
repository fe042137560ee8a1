"""Recurrent layers and cells: gates × hidden units, one set of hidden units in all layers.

W_ih is (gates · hidden, in) and W_hh (gates · hidden, hidden): a hidden unit is one row of every
gate and one column of W_hh. The states of all layers and directions are stacked in one tensor, so
they have their units in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from graphs.axes.dims import Dim, concat
from graphs.rules.context import Context, Dims, Value
from graphs.rules.registry import rule


def _rows(ctx: Context, value: Value, hidden: Dim) -> Dim:
    """State that the first dimension of a weight or bias is gates × hidden."""
    parts = ctx.solver.factor(value.dims[0], ctx.solver.size(hidden))
    assert parts is not None, "a recurrent weight has a row for every gate and hidden unit"
    ctx.solver.fix(parts[0], "gate")
    hidden = ctx.unify(parts[1], hidden)
    ctx.solver.set_kind(hidden, "feature")
    return hidden


def _cell(
    ctx: Context, batch: Dims, x: Dim, hidden: Dim, state: Dim, weights: Sequence[Value | None]
) -> None:
    """One layer in one direction: (W_ih, W_hh, biases) over input, hidden units and state fed back.

    Args:
        ctx: the node.
        batch: dimensions over which the cell is applied, for the cost.
        x: units of the input.
        hidden: units of the cell.
        state: what is fed back, the units of the cell or of its projection.
        weights: W_ih, W_hh and their biases, if any.
    """
    w_in, w_state, *biases = weights
    assert w_in is not None
    assert w_state is not None
    for weight, inside in ((w_in, x), (w_state, state)):
        ctx.role(weight, "weight", consumed=(1,))
        hidden = _rows(ctx, weight, hidden)
        ctx.cost(*batch, weight.dims[0], ctx.unify(weight.dims[1], inside))
    for bias in biases:
        if bias is not None:
            ctx.role(bias, "bias")
            _rows(ctx, bias, hidden)


@rule("lstm", "gru", "rnn_tanh", "rnn_relu", zero="recurrent", ends=True)
def recurrent(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """All layers and directions of `nn.LSTM`, `nn.GRU` or `nn.RNN`, packed sequences included."""
    overload = getattr(ctx.node.target, "_overloadname", "")
    given, params, has_biases, layers, *_ = args[1:] if overload == "data" else args
    states = [given] if isinstance(given, Value) else list(given)
    directions = states[0].shape[0] // layers
    projected = len(states) > 1 and states[0].shape[-1] != states[1].shape[-1]
    queue: Iterator[Value] = iter(params)
    out, hidden, inside = states[0].dims[-1], states[-1].dims[-1], x.dims[-1]
    for _ in range(layers):
        for _ in range(directions):
            weights = [next(queue) for _ in range(4 if has_biases else 2)]
            _cell(ctx, x.dims[:-1], inside, hidden, out, weights)
            if projected:
                projection = next(queue)
                ctx.role(projection, "weight", consumed=(1,))
                ctx.unify(projection.dims[1], hidden)
                out = ctx.unify(projection.dims[0], out)
                ctx.solver.set_kind(out, "feature")
                ctx.cost(*x.dims[:-1], out, hidden)
            elif len(states) > 1:
                out = ctx.unify(out, hidden)
        inside = concat([out] * directions)
    last = tuple((*s.dims[:-1], u) for s, u in zip(states, (out, hidden), strict=False))
    return ((*x.dims[:-1], inside), *last)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", zero="recurrent", ends=True)
def cell(ctx: Context, x: Value, state: Any, *weights: Value | None) -> Any:
    """One step of `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell`."""
    states = [state] if isinstance(state, Value) else list(state)
    hidden = states[0].dims[-1]
    for other in states[1:]:
        hidden = ctx.unify(hidden, other.dims[-1])
    _cell(ctx, x.dims[:-1], x.dims[-1], hidden, hidden, weights)
    dims = (*x.dims[:-1], hidden)
    return dims if len(states) == 1 else (dims,) * len(states)
