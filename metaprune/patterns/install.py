"""Factored layers put into a model, each tried: what computes something else stays dense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs.build.compare import agree, one_product_more
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
    if agree(outputs(model, inputs), expected, tolerance=one_product_more):
        return []
    thin = {name: swap(model, _path(name), layer) for name, layer in dense.items()}
    left = []
    for name, layer in thin.items():
        swap(model, _path(name), layer)
        if not agree(outputs(model, inputs), expected, tolerance=one_product_more):
            swap(model, _path(name), dense[name])
            left.append(name)
    return left


def _path(name: str) -> str:
    return name.rpartition(".")[0]
