"""From a network back to a module: of its class where the forward fits, else the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.build.compare import agree, informative, lively, resized
from graphs.build.follow import can_be_followed, follows
from graphs.build.interpreter import Running
from graphs.build.search import Rebuilt, Search
from graphs.calls.copying import copy_module, working_copy
from graphs.calls.names import named
from graphs.calls.recording import exporting
from graphs.calls.running import Inputs, evaluation, outputs
from graphs.errors import TraceError
from graphs.program import widening
from graphs.program.guards import put_traced_sizes
from graphs.program.module import ExportedModule, exported_module
from graphs.program.program import rewritten
from graphs.relate.structure import Structure
from graphs.relate.trace import reopened, structure_of

# Attributes that only restate the shape of a layer's own tensors.
PLAIN = frozenset(
    (
        *("in_features", "out_features", "in_channels", "out_channels", "num_features"),
        *("embedding_dim", "num_embeddings", "normalized_shape", "num_channels"),
    )
)


class RebuildError(RuntimeError):
    """Neither the class nor the traced program of a network runs with its shapes."""


def rebuild(net: Structure, *, share: bool = False) -> Rebuilt:
    """A new module that computes a network, with an account of what was repaired in it.

    The traced class is tried first: it gets the new tensors, the attributes that restate their
    shapes are repaired, and its forward is followed call by call. Where it goes another way than
    the traced program, the two are compared on random weights of gain O(1) (with those of a fresh
    network, a wrong number of heads looks right). Where no reading of the attributes agrees, the
    result is the program with its shape constants rewritten. A module of the traced class has run
    on another number of examples than the traced one before it is returned, wherever the dense one
    runs on that; the program, on the traced inputs.

    Args:
        net: any network, pruned or not.
        share: let the module have the network's own tensors, for when the network is given up: it
            changes when the module is trained.

    Raises:
        RebuildError: neither the class nor the program runs with these shapes.
    """
    own = _own_class(net)
    same = all(net.source.axes[name].size == axis.size for name, axis in net.axes.items())
    if same:
        found = Rebuilt(own)
    else:
        # Reading the shape of a spectral norm's weight in training changes its buffers.
        with evaluation(own), evaluation(net.source.model):
            search = Search(net, own)
            found = _followed(net, own, search) or _compared(net, own, search)
    if not same or isinstance(own, ExportedModule):
        found = replace(found, notes=(*found.notes, *in_training(net, found.model)))
    # Forwards may write to buffers.
    values = {name: t.value.detach() for name, t in net.tensors.items()}
    again = {
        name: v.clone() for name, v in values.items() if not share or name in net.source.buffers
    }
    _put(found.model, again)
    return found


def _followed(net: Structure, own: nn.Module, search: Search) -> Rebuilt | None:
    """The likeliest reading, where the forward then computes the program call by call."""
    if not can_be_followed(net):
        return None
    found = search.likeliest()
    example = net.source.example
    more = resized(example, net.program.batch)
    if follows(net, own, more):
        return found
    if follows(net, own, example) and _runs_like(own, net.source.model, more):
        return found
    return found if _followed_as_exported(net, own, example, more) else None


def _followed_as_exported(net: Structure, own: nn.Module, example: Inputs, more: Inputs) -> bool:
    """Whether the forward is the program where it takes itself for exported, and the same anyhow.

    Some forwards ask whether they are exported, as they were when the program was written down, and
    leave masks out elsewhere that change nothing. That both ways give the same is seen on the real
    weights; all sizes but those of masks are told by the calls.
    """
    with exporting():
        expected = outputs(own, example) if follows(net, own, example) else None
    if expected is None or isinstance(expected, Exception) or not informative(expected):
        return False
    repeated = list(resized((tuple(expected), {}), net.program.batch)[0])
    return agree(outputs(own, more), repeated)


def _compared(net: Structure, own: nn.Module, search: Search) -> Rebuilt:
    """The first reading whose outputs are those of the program, else the program itself."""
    recorded = net.program.recorded
    real, drawn = _real(net), lively(net)
    graph: nn.Module = Running(net, drawn) if recorded else _program_over(net, drawn)
    example = net.source.example
    probe = example if recorded else resized(example, net.program.batch)
    _put(own, drawn)
    expected = outputs(graph, probe)
    if isinstance(expected, Exception):
        probe, expected = example, outputs(graph, example)
    if not informative(expected):
        _put(own, real)
        _put(graph, real)
        expected = outputs(graph, probe)
    other = resized(example, net.program.batch)
    found = _at_once(search, other, expected, net.program.batch) if probe is example else None
    ran = found is not None
    found = found or search.run(probe, expected)
    if found is None and isinstance(outputs(net.source.model, probe), Exception):
        # The class itself takes no other number of examples than the traced one.
        found = search.run(example, outputs(graph, example))
    _put(own, real)
    _put(graph, real)
    more = found is not None and any(repair[1] not in PLAIN for repair in found.repaired)
    # A width that a forward also divides by may cancel for the drawn weights.
    if more and not agree(outputs(own, example), outputs(graph, example)):
        search.failure = RebuildError("with the real weights it computes something else")
        found = None
    if found is not None and not ran and not _runs_like(own, net.source.model, other):
        search.failure = RebuildError("it takes another number of examples no more")
        found = None
    if found is None:
        wider, problem = _any_size(net, graph, (probe, example)), ""
        model = wider or graph
        if wider is None and recorded:
            model, problem = _any_batch(net)
        fixed = not _runs_like(model, net.source.model, other)
        note = _why(net, search.failure, wider is not None, fixed, problem)
        found = Rebuilt(model, notes=(note,))
    tried = found.model is own and probe is example
    last = None if tried else outputs(found.model, example)
    if isinstance(last, Exception):
        name = type(net.source.model).__name__
        raise RebuildError(
            f"the pruned {name} does not run: {_line(last)}; its own class failed with "
            f"{_line(search.failure)}. Leave the axes that were cut last alone, and report this"
        ) from last
    return found


def _at_once(
    search: Search, other: Inputs, expected: list[torch.Tensor] | Exception, batch: int
) -> Rebuilt | None:
    """The likeliest reading, where it gives the traced outputs for the traced examples repeated."""
    if isinstance(expected, Exception):
        return None
    found = search.likeliest()
    repeated = list(resized((tuple(expected), {}), batch)[0])
    return found if agree(outputs(found.model, other), repeated) else None


def in_training(net: Structure, model: nn.Module) -> tuple[str, ...]:
    """What to say of a module that does not train as the dense one does; nothing where it does.

    Args:
        net: whose source is the dense module.
        model: made from it.
    """
    dense = net.source.model
    if net.source.trains_alike:
        return ()
    for inputs in (net.source.example, resized(net.source.example, net.program.batch)):
        if isinstance(outputs(working_copy(dense), inputs, training=True), Exception):
            continue
        if isinstance(model, ExportedModule):
            return (
                "In training it computes what it computes in evaluation: the model has another "
                "forward there, which the exported graph has not.",
            )
        failure = outputs(working_copy(model), inputs, training=True)
        if isinstance(failure, Exception):
            return (f"It does not run in training mode: {_line(failure)}.",)
        return ()
    return ()


def _runs_like(own: nn.Module, dense: nn.Module, inputs: Inputs) -> bool:
    """Whether a module runs on inputs, wherever the dense one does."""
    failed = isinstance(outputs(own, inputs), Exception)
    return not failed or isinstance(outputs(dense, inputs), Exception)


def graph_model(net: Structure, *, widen: bool = False) -> nn.Module:
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


def _exported(net: Structure, graph: Any, tensors: Mapping[str, torch.Tensor]) -> ExportedModule:
    source = net.source
    module = exported_module(
        net.program, graph, tensors, source.parameters, source.buffers, source.aliases
    )
    return module.train(source.model.training)


def _program_over(net: Structure, tensors: Mapping[str, torch.Tensor]) -> ExportedModule:
    """The rewritten program over tensors, which it has and does not copy."""
    return _exported(net, rewritten(net.program, net.source.axes, net.axes), tensors)


def _own_class(net: Structure) -> nn.Module:
    """A copy of the traced module with the network's tensors in it.

    Every reference to a parameter or buffer follows, also those outside the module's tables (the
    flat weights of a recurrent layer, ties).
    """
    source = net.source.model
    old = dict(chain(*named(source)))
    memo: dict[int, Any] = {}
    for name in net.tensors:
        made = _private(net, name)
        needs_grad = net.source.parameters.get(name)
        if needs_grad is not None:
            made = nn.Parameter(made, requires_grad=needs_grad)
        vars(made).update(vars(old[name]))
        memo[id(old[name])] = made
    return copy_module(source, memo)


def _real(net: Structure) -> dict[str, torch.Tensor]:
    return {name: _private(net, name) for name in net.tensors}


def _private(net: Structure, name: str) -> torch.Tensor:
    """The value of a tensor to run with: a buffer, which a forward may write to, is a copy."""
    value = net.tensors[name].value.detach()
    return value.clone() if name in net.source.buffers else value


def _put(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Let parameters and buffers have other memory; who refers to them sees the new values."""
    if isinstance(module, Running):
        module.tensors = values
        return
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if name in values:
            tensor.data = values[name]


def _any_size(net: Structure, graph: nn.Module, probes: Sequence[Inputs]) -> ExportedModule | None:
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
        again = structure_of(source.model, kwargs or args, every_size=True)
    except Exception:  # Whatever a model does not allow, the program of fixed sizes is there.
        return None
    same = again.axes == source.axes and all(
        again.tensors[name].dims == tensor.dims for name, tensor in net.tensors.items()
    )
    if not same:
        return None
    wide = _program_over(replace(net, program=again.program), _real(net))
    agreed = all(agree(outputs(wide, probe), outputs(graph, probe)) for probe in probes)
    return wide if agreed else None


def _any_batch(net: Structure) -> tuple[ExportedModule, str]:
    """The program traced again with the number of examples open; as it is, and why, where that
    fails.
    """
    try:
        again = reopened(net)
    except TraceError as error:
        return _of_traced_sizes(net), _line(error)
    if any(again.tensors[name].dims != t.dims for name, t in net.tensors.items()):
        return _of_traced_sizes(net), "torch.export finds other axes"
    return _program_over(replace(net, program=again.program), _real(net)), ""


def _of_traced_sizes(net: Structure) -> ExportedModule:
    """The recorded program: constants of the traced sizes are in its calls, and some operators
    read past the end of what is too short instead of raising.
    """
    module = _program_over(net, _real(net))
    put_traced_sizes(module.graph)
    module.recompile()
    return module


def _why(net: Structure, failure: Exception | None, wider: bool, fixed: bool, problem: str) -> str:
    examples = "any number of examples"
    if fixed:
        examples = f"{net.program.batch} examples only" + (f" ({problem})" if problem else "")
    sizes = "of the sizes that the model allows" if wider else "of the sizes it was traced with"
    name = type(net.source.model).__name__
    return (
        f"The result is the exported graph, because the forward of {name} does not fit the new "
        f"shapes ({_line(failure)}). It takes {examples}, and inputs {sizes}; it refuses others."
    )


def _line(error: Exception | None) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
