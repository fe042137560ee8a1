"""A pruned module's shapes, put into the module that was pruned."""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import nn

from graphs.build.compare import resized
from graphs.build.configs import has_configs, is_config
from graphs.build.follow import can_be_followed, follows
from graphs.build.rebuild import rebuild
from graphs.build.search import Rebuilt, Search, is_plain
from graphs.build.ties import untie
from graphs.calls.names import Names
from graphs.calls.running import evaluation, forget
from graphs.relate.structure import Structure
from graphs.tools.arguments import said


def prune_in_place(model: nn.Module, net: Structure) -> nn.Module:
    """Turn the dense module into one that computes a network, whose tensors it then has.

    Parameters that the network has untied are untied first.

    Args:
        model: the module that was traced.
        net: the pruned network.

    Raises:
        ValueError: see `put_in_place`; or it is no module.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected the module that was traced (got {said(model)})")
    tied = Names(model).aliases
    own = [name for name, canonical in net.source.aliases.items() if name == canonical]
    untie(model, [name for name in own if tied.get(name, name) != name])
    return model if _adopts(model, net) else put_in_place(model, rebuild(net, share=True))


def _adopts(model: nn.Module, net: Structure) -> bool:
    """Whether the module computes a network call by call once it has its tensors and sizes.

    The usual case, for which no other module need be built. Otherwise it is as it was.
    """
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    attention = any(isinstance(module, nn.MultiheadAttention) for module in model.modules())
    alike = type(model) is type(net.source.model) and tensors.keys() == net.tensors.keys()
    if not alike or attention or has_configs(model) or not can_be_followed(net):
        return False
    forget(model)  # what dense weights gave
    states = [(vars(module), dict(vars(module))) for module in model.modules()]
    dense = [(tensor, tensor.data, tensor.grad) for tensor in tensors.values()]
    adopted = False
    try:
        for name, tensor in tensors.items():
            tensor.grad = None
            tensor.data = net.tensors[name].value
        with evaluation(model):
            Search(net, model).likeliest()
            adopted = follows(net, model, resized(net.source.example, net.program.batch))
    finally:
        if not adopted:
            for tensor, data, grad in dense:
                tensor.data, tensor.grad = data, grad
            for state, before in states:
                state.clear()
                state.update(before)
        forget(model)
    return adopted


def put_in_place(model: nn.Module, found: Rebuilt) -> nn.Module:
    """Turn the dense module into the pruned one; it, and all it holds, stay the same objects.

    Parameters and buffers take the memory of the pruned ones, so that the dense memory is free as
    soon as nothing else refers to it; ties, hooks, `requires_grad` and the training flag are as
    they were. Gradients, which have the dense shapes, are dropped; an optimizer with state of the
    dense shapes must be made anew. Attributes that state sizes follow, and configurations that do
    are replaced by copies.

    Args:
        model: the module that was traced.
        found: what was rebuilt from it; its module shares all memory with `model` afterwards.

    Raises:
        ValueError: the pruned module is of another class or has other tensors, such as the exported
            graph; the model is then as it was.
    """
    pruned = found.model
    mine, theirs = dict(model.named_modules()), dict(pruned.named_modules())
    if type(pruned) is not type(model) or _names(mine) != _names(theirs):
        raise ValueError(
            f"the pruned model is a {type(pruned).__name__}, which does not fit into the "
            f"{type(model).__name__} in place; that is left as it was. Prune it without inplace: "
            "the report then says why"
        )
    configured = any(path not in mine for path, *_ in found.repaired)
    for path, own in mine.items():
        module = theirs[path]
        for table, made in zip(_tables(own), _tables(module), strict=True):
            for name, tensor in table.items():
                if tensor is not None:
                    tensor.grad = None
                    tensor.data = made[name].data
        if own.__class__ is not type(module):
            # Attention of another width than its input (`graphs.build.attention`).
            own.__class__ = type(module)
        state: dict[str, Any] = own.__dict__
        for name, value in vars(module).items():
            if state.get(name) is value:
                continue
            follows = is_plain(value) or (configured and is_config(name, value))
            if follows and name != "training":
                state[name] = value
    forget(model)  # what dense weights gave
    return model


def _tables(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return module._parameters, module._buffers


def _names(modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """(module path, name) of every parameter and buffer."""
    return [
        (path, name)
        for path, module in modules.items()
        for table in _tables(module)
        for name, tensor in table.items()
        if tensor is not None
    ]
