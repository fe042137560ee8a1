"""Recurrent layers step by step, in linear maps that can be watched.

torch computes an LSTM, GRU or RNN in one call. Here the same is computed as it is written down in
the documentation of `torch.nn`, so that every product with a weight is a call of its own: W_ih sees
all steps of a sequence at once, W_hh one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.nn import functional

State: TypeAlias = tuple[torch.Tensor, ...]
"""h, and c of an LSTM."""
Weights: TypeAlias = Sequence["torch.Tensor | None"]
"""W_ih, W_hh, b_ih, b_hh and, of an LSTM with a projection, W_hr."""

LAYERS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}
CELLS = {f"{name}_cell": kind for name, kind in LAYERS.items()}
"""Function → kind of its cell."""

SEQUENCE = ("input", "hx", "params", "biases", "layers", "dropout", "train", "both", "batch_first")
PACKED = ("data", "batch_sizes", "hx", "params", "biases", "layers", "dropout", "train", "both")


def is_recurrent(name: str) -> bool:
    """Whether a function of this name (`function_name`) is a recurrent layer or cell."""
    return name in LAYERS or name in CELLS


def unrolled(name: str, args: tuple, kwargs: Mapping[str, Any]) -> Any | None:
    """What a recurrent layer or cell of torch returns, computed step by step.

    Args:
        name: of the function.
        args, kwargs: its arguments.

    Returns:
        None for a layer that drops units while it trains.
    """
    if name in CELLS:
        given = dict(zip(("x", "hx", "w_ih", "w_hh", "b_ih", "b_hh"), args, strict=False))
        x, hx, *weights = (given | dict(kwargs)).values()
        kind = CELLS[name]
        state = tuple(hx) if kind == "lstm" else (hx,)
        first, *rest = weights
        step = _step(kind, functional.linear(x, first, *rest[1:2]), state, weights)
        return step if kind == "lstm" else step[0]
    packed = len(args) > 1 and isinstance(args[1], torch.Tensor) and not args[1].is_floating_point()
    given = dict(zip(PACKED if packed else SEQUENCE, args, strict=False)) | dict(kwargs)
    if given["train"] and given["dropout"]:
        return None
    return _layers(LAYERS[name], given, packed)


def _layers(kind: str, given: Mapping[str, Any], packed: bool) -> Any:
    x, sizes = given["data" if packed else "input"], None
    turned = not packed and given.get("batch_first", False)
    if turned:
        x = x.transpose(0, 1)
    if packed:
        sizes = given["batch_sizes"].tolist()
    states = tuple(given["hx"]) if kind == "lstm" else (given["hx"],)
    directions = 2 if given["both"] else 1
    queue = iter(given["params"])
    last: list[State] = []
    for _ in range(given["layers"]):
        outputs = []
        for backwards in range(directions):
            state = tuple(each[len(last)] for each in states)
            weights = _weights(queue, given["biases"], kind == "lstm" and _projected(states))
            made, end = _direction(kind, x, sizes, state, weights, bool(backwards))
            outputs.append(made)
            last.append(end)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    ends = [torch.stack(each) for each in zip(*last, strict=True)]
    return (x.transpose(0, 1) if turned else x, *ends)


def _projected(states: State) -> bool:
    return states[0].shape[-1] != states[1].shape[-1]


def _weights(queue: Iterator[torch.Tensor], biases: bool, projected: bool) -> Weights:
    first, second = next(queue), next(queue)
    both = (next(queue), next(queue)) if biases else (None, None)
    return (first, second, *both, *((next(queue),) if projected else ()))


def _direction(
    kind: str,
    x: torch.Tensor,
    sizes: list[int] | None,
    state: State,
    weights: Weights,
    backwards: bool,
) -> tuple[torch.Tensor, State]:
    """Outputs of all steps, and the state after the last one, of each sequence of the batch."""
    first, bias = weights[0], weights[2]
    assert first is not None
    steps = list(functional.linear(x, first, bias).split(sizes or 1))
    if sizes is None:
        steps = [step[0] for step in steps]
    order = range(len(steps))
    outputs: dict[int, torch.Tensor] = {}
    for t in reversed(order) if backwards else order:
        here = len(steps[t]) if sizes else None  # sequences that are this long
        now = tuple(each[:here] for each in state)
        new = _step(kind, steps[t], now, weights)
        outputs[t] = new[0]
        if here is None or here == len(state[0]):
            state = new
        else:
            state = tuple(torch.cat([a, b[here:]]) for a, b in zip(new, state, strict=True))
    made = [outputs[t] for t in order]
    return (torch.cat(made) if sizes else torch.stack(made)), state


def _step(kind: str, mapped: torch.Tensor, state: State, weights: Weights) -> State:
    """The next state, from W_ih x + b_ih and the one before."""
    h, again, bias = state[0], weights[1], weights[3]
    assert again is not None
    back = functional.linear(h, again, bias)
    if kind == "lstm":
        i, f, g, o = (mapped + back).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h if len(weights) < 5 else functional.linear(h, weights[4])), c
    if kind == "gru":
        (r, z, n), (hr, hz, hn) = mapped.chunk(3, -1), back.chunk(3, -1)
        n = (n + (r + hr).sigmoid() * hn).tanh()
        z = (z + hz).sigmoid()
        return ((1 - z) * n + z * h,)
    return ((mapped + back).tanh() if kind == "tanh" else (mapped + back).relu(),)
