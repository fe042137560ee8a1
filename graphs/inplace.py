"""A pruned module's shapes, put into the module that was pruned."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn

from graphs.configured import is_config
from graphs.search import Rebuilt, is_plain


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
    mine, theirs = _tensors(model), _tensors(pruned)
    if type(pruned) is not type(model) or mine.keys() != theirs.keys():
        raise ValueError(
            f"the pruned model is a {type(pruned).__name__}, which does not fit into the "
            f"{type(model).__name__} in place; that is left as it was. Prune it without inplace: "
            "the report then says why"
        )
    for name, tensor in mine.items():
        tensor.grad = None
        tensor.data = theirs[name].data
    modules: dict[str, nn.Module] = dict(model.named_modules())
    configured = any(path not in modules for path, *_ in found.repaired)
    for path, module in pruned.named_modules():
        own = modules[path]
        # Attention of another width than its input is of a class of its own (`graphs.attention`).
        own.__class__ = type(module)
        state = vars(own)
        for name, value in vars(module).items():
            if state.get(name) is value:
                continue
            follows = is_plain(value) or (configured and is_config(name, value))
            if follows and name != "training":
                state[name] = value
    return model


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))
