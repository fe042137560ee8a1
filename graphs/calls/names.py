"""What the tensors of a module are called, and which names are one tensor."""

from __future__ import annotations

import torch
from torch import nn

Named = list[tuple[str, torch.Tensor]]


def named(model: nn.Module) -> tuple[Named, Named]:
    """All parameters and all buffers with their names, tied ones under every name, in one walk."""
    parameters: Named = []
    buffers: Named = []
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for found, table in ((parameters, module._parameters), (buffers, module._buffers)):
            found += [(prefix + name, t) for name, t in table.items() if t is not None]
    return parameters, buffers


class Names:
    """Canonical tensor names, aliases of tied ones, and what is a parameter."""

    def __init__(self, model: nn.Module) -> None:
        self.aliases: dict[str, str] = {}
        self.parameters: dict[str, bool] = {}
        self.buffers: dict[str, bool] = {}
        self.values: dict[str, torch.Tensor] = {}
        first: dict[int, str] = {}
        parameters, buffers = named(model)
        for name, parameter in parameters:
            canonical = first.setdefault(id(parameter), name)
            self.aliases[name] = canonical
            self.parameters[canonical] = parameter.requires_grad
            self.values[canonical] = parameter.detach()
        persistent = set(model.state_dict(keep_vars=True))
        for name, buffer in buffers:
            canonical = first.setdefault(id(buffer), name)
            self.aliases[name] = canonical
            if canonical == name:
                self.buffers[name] = name in persistent
                self.values[name] = buffer.detach()
