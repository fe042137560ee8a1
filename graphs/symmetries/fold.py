"""Scales of norms folded into the weights beside them, so that they no longer tell units apart.

W (γ x + β)             =  (W γ) x + W β                          readers
γ (W x + b − μ)/σ + β   =  (γ/σ) W x + (γ/σ) (b − μ) + β          writers: batch norm, layer scale
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import torch

from graphs.relate.structure import Structure
from graphs.symmetries.find import symmetry
from graphs.symmetries.positions import entries_beside
from graphs.symmetries.shifts import way_of
from graphs.symmetries.values import Fold, Weight

Net = TypeVar("Net", bound=Structure)


def fold_norms(net: Net, axis: str) -> Net:
    """The same function with the norms along an axis folded into the weights around them.

    Scales become one; shifts zero where they go into biases; statistics of batch norms zero and
    one. It is computed in float64, and every tensor keeps its dtype.

    Args:
        net: the network.
        axis: whose group is one of matrices, with nothing to untie.

    Raises:
        KeyError: there is no such axis.
        ValueError: the axis cannot be turned, or weights have to be untied first.
    """
    found = symmetry(net, axis)
    if not found.turns:
        raise ValueError(f"the norms of {axis} cannot be folded: {found.blocked}")
    if found.unties:
        names = ", ".join(u.name for u in found.unties)
        raise ValueError(f"the norms of {axis} cannot be folded yet: untie {names} first (`untie`)")
    values = _Values(net, found.folds)
    for fold in found.folds:
        (_into_readers if fold.into == "readers" else _into_writers)(net, fold, values)
        values.leave(fold)
    return net.replace(values)


class _Values(dict[str, torch.Tensor]):
    """Tensors in float64 as long as a fold is still to meet them, then in their own dtype again."""

    def __init__(self, net: Structure, folds: tuple[Fold, ...]) -> None:
        super().__init__()
        self.net = net
        self.left = Counter(name for fold in folds for name in _names(fold))

    def __missing__(self, name: str) -> torch.Tensor:
        self[name] = self.net.tensors[name].value.to(torch.float64)
        return self[name]

    def leave(self, fold: Fold) -> None:
        """Round what no other fold meets."""
        self.left.subtract(_names(fold))
        for name in _names(fold):
            if not self.left[name]:
                self[name] = self[name].to(self.net.tensors[name].value.dtype)


def _names(fold: Fold) -> set[str]:
    norm = (fold.scale, fold.shift, fold.mean, fold.variance)
    around = (name for weight in fold.weights for name in (weight.tensor, weight.bias))
    return {name for name in (*norm, *around) if name is not None}


def _beside(
    net: Structure, vector: torch.Tensor, weight: Weight, value: torch.Tensor, scale: str, rest: int
) -> torch.Tensor:
    """A vector over units, in the places of a weight's dimension; `rest` where there are none."""
    index = entries_beside(net, scale, weight.tensor, weight.dim)
    assert index is not None, "the fold was found for weights that have the units"
    index = index.to(vector.device)
    spread = torch.where(index >= 0, vector.flatten()[index.clamp_min(0)], rest)
    return spread.view([-1 if i == weight.dim else 1 for i in range(value.dim())])


def _into_readers(net: Structure, fold: Fold, values: _Values) -> None:
    assert fold.scale is not None
    scale = values[fold.scale] + fold.offset
    way = way_of(net, fold)
    shift = values[fold.shift] if fold.shift else None
    for weight in fold.weights:
        value = values[weight.tensor]
        if way == "biases":
            assert shift is not None
            assert fold.shift is not None
            assert weight.bias is not None
            read = value * _beside(net, shift, weight, value, fold.shift, 0)
            values[weight.bias] = values[weight.bias] + read.sum(weight.dim)
        values[weight.tensor] = value * _beside(net, scale, weight, value, fold.scale, 1)
    if shift is not None and fold.shift is not None:
        zero = torch.zeros_like(shift)
        values[fold.shift] = (
            zero if way == "biases" else torch.where(shift == 0, zero, shift / scale)
        )
    values[fold.scale] = torch.ones_like(scale) - fold.offset


def _into_writers(net: Structure, fold: Fold, values: _Values) -> None:
    name = fold.scale or fold.variance
    assert name is not None
    scale = values[name] + fold.offset if fold.scale else torch.ones_like(values[name])
    if fold.variance is not None:
        scale = scale / (values[fold.variance] + fold.epsilon).sqrt()
        # What is left of the batch norm divides by √(1 + ε).
        scale = scale * (1 + fold.epsilon) ** 0.5
        values[fold.variance] = torch.ones_like(values[fold.variance])
    if fold.mean is not None and fold.shift is not None:
        left = scale / (1 + fold.epsilon) ** 0.5
        values[fold.shift] = values[fold.shift] - left * values[fold.mean]
        values[fold.mean] = torch.zeros_like(values[fold.mean])
    elif fold.mean is not None:
        values[fold.mean] = values[fold.mean] * scale
    if fold.scale is not None:
        values[fold.scale] = torch.ones_like(values[fold.scale]) - fold.offset
    for weight in fold.weights:
        value = values[weight.tensor]
        values[weight.tensor] = value * _beside(net, scale, weight, value, name, 1)
