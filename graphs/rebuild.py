"""From a `Network` back to a module: of its class where the forward fits, else the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import widening
from graphs.copying import copy_module
from graphs.errors import TraceError
from graphs.export import Inputs
from graphs.network import Network
from graphs.probe import agree, enliven, informative, outputs, resized
from graphs.program import ExportedModule, exported_module, insist_on_batch, rewritten
from graphs.running import Running
from graphs.search import Rebuilt, Search
from graphs.trace import reopened, trace

# Attributes that only restate the shape of a layer's own tensors.
PLAIN = frozenset(
    (
        *("in_features", "out_features", "in_channels", "out_channels", "num_features"),
        *("embedding_dim", "num_embeddings", "normalized_shape", "num_channels"),
    )
)


class RebuildError(RuntimeError):
    """Neither the class nor the traced program of a network runs with its shapes."""


def to_model(net: Network) -> nn.Module:
    """See `graphs.Network.to_model`."""
    return rebuild(net).model


def rebuild(net: Network) -> Rebuilt:
    """A new module that computes a network, with an account of what was repaired in it.

    The traced class is tried first: it gets the new tensors, the attributes that restate their
    shapes are repaired, and its forward is compared with the traced program, on random weights of
    gain O(1) (with those of a fresh network, a wrong number of heads looks right) and on another
    number of examples than the traced one wherever the model allows that. Where no reading of the
    attributes agrees, the result is the program with its shape constants rewritten. Either has run
    on the traced inputs and, if of the traced class, on another number of examples before it is
    returned.

    Args:
        net: any network, pruned or not.

    Raises:
        RebuildError: neither the class nor the program runs with these shapes.
    """
    own = _own_class(net)
    if all(net.source.axes[name].size == axis.size for name, axis in net.axes.items()):
        _fill(own, net)
        return Rebuilt(own)
    recorded = net.program.recorded
    tensors = _tensors(own, net)
    graph: nn.Module = Running(net, tensors) if recorded else _program_over(net, own)
    example = net.source.example
    probe = example if recorded else resized(example, net.program.batch)
    enliven(net, tensors)
    expected = outputs(graph, probe)
    if isinstance(expected, Exception):
        probe, expected = example, outputs(graph, example)
    if not informative(expected):
        _fill(own, net)
        expected = outputs(graph, probe)
    search = Search(net, own)
    found = search.run(probe, expected)
    if found is None and isinstance(outputs(net.source.model, probe), Exception):
        # The class itself takes no other number of examples than the traced one.
        found = search.run(example, outputs(graph, example))
    _fill(own, net)
    more = found is not None and any(repair[1] not in PLAIN for repair in found.repaired)
    # A width that a forward also divides by may cancel for the drawn weights.
    if more and not agree(outputs(own, example), outputs(graph, example)):
        search.failure = RebuildError("with the real weights it computes something else")
        found = None
    other = resized(example, net.program.batch)
    if found is not None and not _runs_like(own, net.source.model, other):
        search.failure = RebuildError("it takes another number of examples no more")
        found = None
    if found is None:
        wider = _any_size(net, own, graph, (probe, example))
        note = _why(net, search.failure, wider is not None)
        if wider is None and recorded:
            wider, problem = _any_batch(net, own)
            note += problem
        found = Rebuilt(wider or graph, notes=(note,))
    tried = found.model is own and probe is example
    last = None if tried else outputs(found.model, example)
    if isinstance(last, Exception):
        name = type(net.source.model).__name__
        raise RebuildError(
            f"the pruned {name} does not run: {_line(last)}; its own class failed with "
            f"{_line(search.failure)}. Leave the axes that were cut last alone, and report this"
        ) from last
    return found


def _runs_like(own: nn.Module, dense: nn.Module, inputs: Inputs) -> bool:
    """Whether a module runs on inputs, wherever the dense one does."""
    failed = isinstance(outputs(own, inputs), Exception)
    return not failed or isinstance(outputs(dense, inputs), Exception)


def graph_model(net: Network, *, widen: bool = False) -> nn.Module:
    """The traced program over this network's tensors, with its shape constants rewritten.

    Args:
        net: the network.
        widen: turn casts to float32 inside the forward (norms, rotary angles) into casts to
            float64, so that laws can be checked beyond the precision the forward asks for.
    """
    graph = rewritten(net.program, net.source.axes, net.axes)
    if widen:
        widening.widen(graph)
    tensors = {name: t.value.detach().clone() for name, t in net.tensors.items()}
    return _exported(net, graph, tensors)


def _exported(net: Network, graph: Any, tensors: Mapping[str, torch.Tensor]) -> ExportedModule:
    source = net.source
    module = exported_module(
        net.program, graph, tensors, source.parameters, source.buffers, source.aliases
    )
    return module.train(source.model.training)


def _program_over(net: Network, own: nn.Module) -> ExportedModule:
    """The rewritten program over the tensors of `own`: two modules, one set of weights."""
    graph = rewritten(net.program, net.source.axes, net.axes)
    return _exported(net, graph, _tensors(own, net))


def _own_class(net: Network) -> nn.Module:
    """A copy of the traced module with tensors of this network's shapes in it, not yet filled.

    Every reference to a parameter or buffer follows, also those outside the module's tables (the
    flat weights of a recurrent layer, ties).
    """
    source = net.source.model
    old = dict(chain(source.named_parameters(), source.named_buffers()))
    memo: dict[int, Any] = {}
    for name, tensor in net.tensors.items():
        made: torch.Tensor = torch.empty_like(tensor.value)
        needs_grad = net.source.parameters.get(name)
        if needs_grad is not None:
            made = nn.Parameter(made, requires_grad=needs_grad)
        vars(made).update(vars(old[name]))
        memo[id(old[name])] = made
    return copy_module(source, memo)


def _tensors(own: nn.Module, net: Network) -> dict[str, torch.Tensor]:
    """Tensor name → parameter or buffer of the rebuilt module."""
    found = dict(chain(own.named_parameters(), own.named_buffers()))
    return {name: found[name].detach() for name in net.tensors}


def _fill(own: nn.Module, net: Network) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(own, net).items():
            tensor.copy_(net.tensors[name].value)


def _any_size(
    net: Network, own: nn.Module, graph: nn.Module, probes: Sequence[Inputs]
) -> ExportedModule | None:
    """The program once more, traced with every size of the inputs open; None where that fails.

    For models of tokens, whose number is another in every call; a second trace is no small price,
    and only models that do not keep their class pay it.
    """
    source = net.source
    args, kwargs = source.example
    tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
    if not any(v.dim() > 1 and not v.is_floating_point() for v in tensors):
        return None
    try:
        again = trace(source.model, kwargs or args, every_size=True)
    except Exception:  # Whatever a model does not allow, the program of fixed sizes is there.
        return None
    same = again.axes == source.axes and all(
        again.tensors[name].dims == tensor.dims for name, tensor in net.tensors.items()
    )
    if not same:
        return None
    wide = _program_over(replace(net, program=again.program), own)
    agreed = all(agree(outputs(wide, probe), outputs(graph, probe)) for probe in probes)
    return wide if agreed else None


def _any_batch(net: Network, own: nn.Module) -> tuple[ExportedModule, str]:
    """The program traced again with the number of examples open; as it is where that fails."""
    problem = f" Except that it takes {net.program.batch} examples only"
    try:
        again = reopened(net)
    except TraceError as error:
        return insist_on_batch(_program_over(net, own)), f"{problem}: {_line(error)}."
    if any(again.tensors[name].dims != t.dims for name, t in net.tensors.items()):
        static = insist_on_batch(_program_over(net, own))
        return static, f"{problem}, because torch.export finds other axes."
    return _program_over(replace(net, program=again.program), own), ""


def _why(net: Network, failure: Exception | None, wider: bool) -> str:
    sizes = (
        "It takes inputs of the sizes that the model allows"
        if wider
        else "It takes any number of examples, and otherwise inputs of the sizes it was traced with"
    )
    name = type(net.source.model).__name__
    return (
        f"The result is the exported graph, because the forward of {name} does not fit the new "
        f"shapes ({_line(failure)}). {sizes}."
    )


def _line(error: Exception | None) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
