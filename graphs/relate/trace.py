"""From a module to a network: export, relate dimensions operator by operator, name the axes."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from graphs.calls.copying import working_copy
from graphs.calls.export import capture, capture_training, export
from graphs.calls.independence import unwritten
from graphs.calls.names import Names
from graphs.calls.recording import Recorded
from graphs.calls.refusals import admit, unwrapped
from graphs.calls.running import Inputs, as_inputs
from graphs.relate.assembly import assemble
from graphs.relate.structure import Structure
from graphs.relate.training import trains_alike
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
        if every_size:
            found: Recorded | fx.GraphModule = export(copied, inputs, model, every_size=True)
        else:
            found = capture(copied, inputs, model)
        return _network(found, copied, model, inputs)


def reopened(net: Structure) -> Structure:
    """The network as traced, by `torch.export`, whose programs take any number of examples.

    Raises:
        TraceError: the module cannot be exported.
    """
    model, inputs = net.source.model, net.source.example
    copied = working_copy(model)
    return _network(export(copied, inputs, model), copied, model, inputs)


def _network(
    module: Recorded | fx.GraphModule, copied: nn.Module, model: nn.Module, inputs: Inputs
) -> Structure:
    """The network of a program.

    Args:
        module: the program.
        copied: the copy of the model that it was made of, which is given up.
        model: that is traced.
        inputs: as traced.
    """
    walk = Walk(module, Names(model))
    walk.run()
    same, training = trains_alike(module, copied, inputs), None
    if not same:
        trained = capture_training(working_copy(model), inputs, model)
        training = None if trained is None else Walk(trained, walk.names, beside=walk)
    if training is not None:
        training.run()
    walk.settle(training)
    return assemble(walk, working_copy(model, apart=False), inputs, training, same)
