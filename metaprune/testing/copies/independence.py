"""The law of independence: a copy computes with what it has, and so does the original.

change the copy's weights          the copy computes what the original would with them,
                                   the original is what it was
change the original's weights      the copy is what it was; no memory is shared
run the copy                       nothing is written into the original
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from graphs import Network
from graphs.build.compare import agree
from graphs.calls.independence import changes, contents
from graphs.calls.names import named
from graphs.calls.running import Inputs, outputs
from metaprune.testing.alterations import lively
from metaprune.testing.checking import Checked, gap


def independence_law(model: nn.Module, back: nn.Module, net: Network, inputs: Inputs) -> Checked:
    """Whether a module that came back from a network is one of its own.

    Args:
        model: that was traced; it is left as it was.
        back: from `net.to_model()`; its weights are others afterwards.
        net: the network.
        inputs: (args, kwargs) of the forward.
    """
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        return Checked(0.0, 0, ())
    real = {name: tensor.value for name, tensor in net.tensors.items()}
    drawn = lively(net, torch.Generator().manual_seed(0))
    other = {name: tensor.value for name, tensor in drawn.tensors.items()}
    memory = {t.untyped_storage().data_ptr() for _, t in chain(*named(model)) if t.numel()}
    shared = [n for n, t in chain(*named(back)) if t.untyped_storage().data_ptr() in memory]
    before, held = outputs_of(model, inputs), contents(model)
    own = _outputs_with(back, real, inputs)
    with _holding(model, other):
        expected, unmoved = outputs_of(model, inputs), _outputs_with(back, real, inputs)
    found = _outputs_with(back, other, inputs)
    written = changes(held, model)
    after = outputs_of(model, inputs)
    failures = (
        *_unlike("the weights of the original were changed, and the copy", unmoved, own),
        *_unlike("the weights of the copy were changed, and the original", after, before),
        *_unlike("the weights of the copy were changed, and it", found, expected),
    )
    if written:
        failures += (f"running the copy wrote into {written} of the original",)
    if shared:
        failures += (f"{', '.join(shared[:3])} of the copy lies in the memory of the original",)
    return Checked(_gap_of(found, expected), 5, failures)


def _outputs_with(
    model: nn.Module, values: Mapping[str, torch.Tensor], inputs: Inputs
) -> list[torch.Tensor] | Exception:
    """What a module returns once parameters and buffers have other values."""
    for name, tensor in chain(*named(model)):
        if name in values:
            tensor.data = values[name].clone()
    return outputs(model, inputs)


def outputs_of(model: nn.Module, inputs: Inputs) -> list[torch.Tensor] | Exception:
    """What a user's model returns in evaluation mode; the model is left as it was."""
    with _untouched(model):
        return outputs(model, inputs)


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Run a model itself: its buffers are others meanwhile, and what it keeps comes back."""
    states = [(vars(module), dict(vars(module))) for module in model.modules()]
    held = [v for _, s in states for v in s.values() if isinstance(v, dict | list)]
    entries: list[tuple[Any, Any]] = [(one, one.copy()) for one in held]
    made = {id(b): b.detach().clone() for b in model.buffers()}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = made.get(id(buffer), buffer)
    try:
        yield
    finally:
        for state, before in states:
            state.clear()
            state.update(before)
        for one, before in entries:
            one.clear()
            (one.extend if isinstance(one, list) else one.update)(before)


@contextmanager
def _holding(model: nn.Module, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """A model with the memory of other tensors meanwhile; nothing is written to its own."""
    memory = [(tensor, tensor.data) for _, tensor in chain(*named(model))]
    try:
        for name, tensor in chain(*named(model)):
            if name in values:
                tensor.data = values[name].clone()
        yield
    finally:
        for tensor, data in memory:
            tensor.data = data


def _gap_of(found: Any, expected: Any) -> float:
    """The largest relative difference of outputs; infinite where one of them raised."""
    failed = isinstance(found, Exception) or isinstance(expected, Exception)
    return float("inf") if failed or len(found) != len(expected) else gap(found, expected)


def _unlike(what: str, found: Any, expected: Any) -> tuple[str, ...]:
    if isinstance(expected, Exception) or agree(found, expected):
        return ()
    reason = f": {found}" if isinstance(found, Exception) else ""
    return (f"{what} does not compute what it should{reason}",)
