"""From a module to a network: export, relate dimensions operator by operator, name the axes."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from graphs.calls.copying import working_copy
from graphs.calls.export import capture, export
from graphs.calls.independence import unwritten
from graphs.calls.names import Names
from graphs.calls.recording import Recorded
from graphs.calls.refusals import admit, unwrapped
from graphs.calls.running import Inputs, as_inputs
from graphs.relate.assembly import assemble
from graphs.relate.structure import Structure
from graphs.relate.walk import Walk


def structure_of(model: nn.Module, example_inputs: Any, *, every_size: bool = False) -> Structure:
    """The network of a module as axes and tensors; what `graphs.trace` gives methods to.

    Args and errors are those of `graphs.trace`.
    """
    inputs = as_inputs(example_inputs)
    model = unwrapped(model)
    admit(model)
    # What a forward keeps for its next call stays in a copy, and what an earlier one kept is no
    # constant.
    copied = working_copy(model)
    with unwritten(model):
        found = (
            export(copied, inputs, model, every_size=True)
            if every_size
            else capture(copied, inputs, model)
        )
    return _network(found, model, inputs)


def reopened(net: Structure) -> Structure:
    """The network as traced, by `torch.export`, whose programs take any number of examples.

    Raises:
        TraceError: the module cannot be exported.
    """
    model, inputs = net.source.model, net.source.example
    return _network(export(working_copy(model), inputs, model), model, inputs)


def _network(module: Recorded | fx.GraphModule, model: nn.Module, inputs: Inputs) -> Structure:
    walk = Walk(module, Names(model))
    walk.run()
    return assemble(walk, working_copy(model, apart=False), inputs)
