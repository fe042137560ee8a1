"""Factored layers put into a model, each tried: what computes something else stays dense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphs.calls.running import as_inputs, outputs
from pruners.factors import Parts, factored, swap


def installed(model: nn.Module, parts: Mapping[str, Parts], example_inputs: Any) -> list[str]:
    """Put factored layers into a model whose weights are their products, in place.

    Returns:
        Names of the weights that stay dense, because the model does not compute the same with them.
    """
    inputs = as_inputs(example_inputs)
    expected = outputs(model, inputs)
    dense = {name: model.get_submodule(_path(name)) for name in parts}
    factored(model, parts)
    if _near(outputs(model, inputs), expected):
        return []
    thin = {name: swap(model, _path(name), layer) for name, layer in dense.items()}
    left = []
    for name, layer in thin.items():
        swap(model, _path(name), layer)
        if not _near(outputs(model, inputs), expected):
            swap(model, _path(name), dense[name])
            left.append(name)
    return left


def _near(found: list[torch.Tensor] | Exception, expected: list[torch.Tensor] | Exception) -> bool:
    """Whether outputs agree up to the rounding of one product more."""
    if isinstance(found, Exception) or isinstance(expected, Exception):
        return False
    if len(found) != len(expected):
        return False
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.is_floating_point() and a.numel():
            scale = b.abs().max()
            if not (a - b).abs().max() <= torch.finfo(b.dtype).eps ** 0.5 * scale:
                return False
    return True


def _path(name: str) -> str:
    return name.rpartition(".")[0]
