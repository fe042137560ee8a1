"""What is said before any work: which modules cannot be traced, and what lies under wrappers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from graphs.errors import TraceError

# Wrappers that compute what the module under them computes: class name → attribute with it.
# By name, because importing torch's distributed and compiler packages costs seconds.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}

_PLAIN: tuple[type, ...] = (torch.Tensor, nn.Parameter, nn.Buffer)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module under torch.compile, DataParallel and DistributedDataParallel.

    Names of parameters are those of the module itself, without `_orig_mod.` or `module.`.
    """
    while type(model).__name__ in _WRAPPERS and type(model).__module__.startswith("torch."):
        model = getattr(model, _WRAPPERS[type(model).__name__])
    return model


def admit(model: Any) -> None:
    """Refuse what can be known not to work.

    Raises:
        TraceError: not a module, TorchScript, lazy, quantized or sharded, or made for inference.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"the model must be a torch.nn.Module (got {type(model).__name__})",
            remedy="Wrap a function in a module whose forward calls it.",
        )
    for path, module in model.named_modules():
        for found in (_scripted, _quantized):
            why = found(module)
            if why:
                what = f"{type(model).__name__} cannot be traced: {_named(path, module)} {why[0]}"
                raise TraceError(what, remedy=why[1])
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            plain = tensor is None or (type(tensor) in _PLAIN and not tensor.is_inference())
            why = None if plain else _unusual(tensor)
            if why:
                where = f"{path}.{name}" if path else name
                what = f"{type(model).__name__} cannot be traced: {where} {why[0]}"
                raise TraceError(what, remedy=why[1])


Why = tuple[str, str] | None


def _scripted(module: nn.Module) -> Why:
    if not isinstance(module, torch.jit.ScriptModule):
        return None
    return (
        "is TorchScript, whose code torch.export cannot read",
        "Trace the Python module that it was made from, and script the pruned one.",
    )


def _quantized(module: nn.Module) -> Why:
    packed = torch.ScriptObject in map(type, vars(module).values())
    if not packed and ".quantized" not in type(module).__module__:
        return None
    return (
        "is quantized, its weights packed where no channel can be cut",
        "Prune the float model first, then quantize the result.",
    )


def _unusual(tensor: torch.Tensor) -> tuple[str, str]:
    if nn.parameter.is_lazy(tensor):
        return (
            "has no shape yet (a lazy module)",
            "Run the model once on an input, then trace it.",
        )
    if tensor.is_inference():
        return (
            "was made in torch.inference_mode, and no gradient can be taken of what it makes",
            "Make or load the model outside of it, or copy it there: copy.deepcopy(model).",
        )
    return (
        f"is a {type(tensor).__name__}, a quantized or sharded tensor",
        "Trace the model with plain tensors: before quantizing, or gathered on one device.",
    )


def _named(path: str, module: nn.Module) -> str:
    return f"{path or 'the model'} ({type(module).__name__})"
