"""What a forward keeps for its next call: tensors computed from weights that may be others by then.

In evaluation mode, LeViT and its kind look the biases of their attention up once and keep them in a
dictionary, which they empty when they are set to training. A copy with other weights must not start
with them, and a module that was only run to be looked at must not stay with them.
"""

from __future__ import annotations

import torch
from torch import nn

_TABLES = ("_parameters", "_buffers", "_modules", "_flat_weights")


def forget(model: nn.Module) -> None:
    """Let the modules drop what they keep between calls, in the way that they do before training.

    Flags stay. Only modules that keep tensors and have a `train` of their own are asked.
    """
    for module in list(model.modules()):
        if type(module).train is nn.Module.train or not _keeps(module):
            continue
        flags = {part: part.training for part in module.modules()}
        module.train()
        for part, flag in flags.items():
            part.training = flag


def _keeps(module: nn.Module) -> bool:
    """Whether a module holds tensors in dictionaries or lists of its own."""
    return any(
        isinstance(entry, torch.Tensor)
        for name, held in vars(module).items()
        if isinstance(held, dict | list) and name not in _TABLES
        for entry in (held.values() if isinstance(held, dict) else held)
    )
