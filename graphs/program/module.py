"""An exported graph as a module of its own, which trains, moves and is cast like any other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from graphs.program.guards import put_guards
from graphs.program.program import Program
from graphs.rules.registry import known_of


class ExportedModule(fx.GraphModule):
    """An exported graph as a module: trainable, with working `train()`, `eval()` and `to()`.

    The traced forward has its training flags, its device and its dtype baked in as arguments.
    `train` rewrites the flags, so that batch norm uses batch statistics and dropout drops while
    training; `to` and its kind rewrite the device and the dtype of what the forward makes or casts
    to. After a cast of the module, parts that the forward computes in the traced dtype on purpose
    (norms in float32) are computed in the new one.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedModule:
        with warnings.catch_warnings():
            # torch warns of its own way to copy the description of inputs and outputs.
            warnings.simplefilter("ignore", FutureWarning)
            copied: ExportedModule = super().__deepcopy__(memo)
        return copied

    def _apply(self, fn: Any, recurse: bool = True) -> ExportedModule:
        before = _kinds(self)
        super()._apply(fn, recurse)
        changed = {old: new for old, new in zip(before, _kinds(self), strict=True) if old != new}
        if changed:
            for node in self.graph.nodes:
                node.args, node.kwargs = pytree.tree_map(
                    lambda v: changed.get(v, v) if isinstance(v, torch.device | torch.dtype) else v,
                    (node.args, node.kwargs),
                )
            self.recompile()
        return self

    def train(self, mode: bool = True) -> ExportedModule:
        """Switch between training and evaluation, in the calls as well as in the flag."""
        super().train(mode)
        changed = False
        for node in self.graph.nodes:
            known = known_of(node.target)
            where = known.training
            if node.op != "call_function" or where is None or len(node.args) <= where:
                continue
            if known.normalises and node.args[3] is None:
                continue  # It has no statistics but those of the batch.
            if node.args[where] is not mode:
                node.update_arg(where, mode)
                changed = True
        if changed:
            self.recompile()
        return self


def _kinds(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and floating dtype of a module, by its first tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    floats = [t.dtype for t in tensors if t.is_floating_point()]
    return tensors[0].device if tensors else None, floats[0] if floats else None


def exported_module(
    program: Program,
    graph: fx.Graph,
    tensors: Mapping[str, torch.Tensor],
    parameters: Mapping[str, bool],
    buffers: Mapping[str, bool],
    aliases: Mapping[str, str],
) -> ExportedModule:
    """A module that runs `graph` over `tensors`.

    Args:
        program: the program the graph comes from.
        graph: the (rewritten) graph.
        tensors: name → value.
        parameters: name → requires_grad, for the tensors that are parameters.
        buffers: name → persistent, for the others.
        aliases: state-dict name → name in `tensors`; tied ones become one parameter.
    """
    root = nn.Module()
    made: dict[str, torch.Tensor] = {}
    for alias, name in aliases.items():
        *path, leaf = alias.split(".")
        owner = root
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        if name in parameters:
            if name not in made:
                made[name] = nn.Parameter(tensors[name], requires_grad=parameters[name])
            owner.register_parameter(leaf, made[name])
        else:
            owner.register_buffer(leaf, tensors[name], persistent=buffers.get(name, True))
    for name, value in program.constants.items():
        if isinstance(value, nn.Module):
            root.add_module(name, value)
        else:
            root.register_buffer(name, value.detach().clone(), persistent=False)
    if program.guards is not None:
        put_guards(graph, program.guards)
    module = ExportedModule(root, graph)
    for name, child in root.named_children():
        module.add_module(name, child)
    for name, parameter in root._parameters.items():
        module.register_parameter(name, parameter)
    for name, buffer in root._buffers.items():
        module.register_buffer(
            name, buffer, persistent=name not in root._non_persistent_buffers_set
        )
    return module
