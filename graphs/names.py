"""What the tensors of a module are called, and which names are one tensor."""

from __future__ import annotations

import torch
from torch import nn


class Names:
    """Canonical tensor names, aliases of tied ones, and what is a parameter."""

    def __init__(self, model: nn.Module) -> None:
        self.aliases: dict[str, str] = {}
        self.parameters: dict[str, bool] = {}
        self.buffers: dict[str, bool] = {}
        self.values: dict[str, torch.Tensor] = {}
        first: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            canonical = first.setdefault(id(parameter), name)
            self.aliases[name] = canonical
            self.parameters[canonical] = parameter.requires_grad
            self.values[canonical] = parameter.detach()
        persistent = set(model.state_dict(keep_vars=True))
        for name, buffer in model.named_buffers(remove_duplicate=False):
            canonical = first.setdefault(id(buffer), name)
            self.aliases[name] = canonical
            if canonical == name:
                self.buffers[name] = name in persistent
                self.values[name] = buffer.detach()
