"""Networks that a function of an installed package, or of a file of the user's own, returns."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from training.config import called
from training.named import function_named
from training.sources.building import with_checkpoint
from training.sources.registry import source


@source("function")
def from_function(
    *,
    function: str,
    options: Mapping[str, Any] | None = None,
    path: str | None = None,
    meta: bool = False,
) -> nn.Module:
    """Call a function, and load a checkpoint into what it returns.

    Args:
        function: `package.module:function`, for instance `torchvision.models:resnet50`, or
            `path/to/file.py:function`.
        options: keyword arguments.
        path: checkpoint, .th, .pt or .safetensors; the function's own weights when None.
        meta: call it on the meta device, so that its weights take no memory; without `path`.

    Raises:
        ValueError: no such function, it returns no module, or `meta` with a checkpoint.
    """
    if meta and path is not None:
        raise ValueError(f"meta builds without weights; leave the checkpoint {path!r} out")
    builder = function_named(function)
    with torch.device("meta") if meta else contextlib.nullcontext():
        model = called(builder, dict(options or {}), f"model {function!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"{function!r} must return a torch.nn.Module (got {type(model).__name__})")
    return with_checkpoint(model, path)
