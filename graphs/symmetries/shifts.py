"""Where the shift of a norm goes when its scale is folded into the weights that read it.

W (γ x + β) = (W γ) x + W β: into the biases of the weights, where all have one; or else it stays
with the norm, divided by the scale, W (γ x + β) = (W γ) (x + β / γ).
"""

from __future__ import annotations

from typing import Literal

import torch

from graphs.relate.structure import Structure
from graphs.symmetries.passing.along import Blocked
from graphs.symmetries.values import Fold

# Below this share of the largest scale a division by it would cost digits.
_LEAST = 1e-3


def way_of(net: Structure, fold: Fold) -> Literal["none", "biases", "divided"]:
    """How the shift of a norm goes.

    Raises:
        Blocked: a weight has no bias, and the scale is too small for a unit to divide by.
    """
    if fold.shift is None or fold.into == "writers":
        return "none"
    if all(_takes_a_shift(net, w.tensor, w.bias) for w in fold.weights):
        return "biases"
    tensor = net.tensors[fold.scale] if fold.scale else None
    if tensor is None or tensor.value.is_meta:
        return "divided"
    scale = (tensor.value.to(torch.float64) + fold.offset).abs()
    shift = net.tensors[fold.shift].value
    small = (scale < _LEAST * scale.max()) & (shift != 0)
    if bool(small.any()):
        bare = next(w.tensor for w in fold.weights if not _takes_a_shift(net, w.tensor, w.bias))
        raise Blocked(
            f"the shift {fold.shift} has nowhere to go: {bare} has no bias for it, and "
            f"{fold.scale} is too small at {int(small.sum())} units to divide by"
        )
    return "divided"


def _takes_a_shift(net: Structure, weight: str, bias: str | None) -> bool:
    """Whether W β, of a matrix W, can be added to a bias of its own."""
    value = net.tensors.get(weight)
    other = net.tensors.get(bias) if bias else None
    return (
        value is not None
        and other is not None
        and value.value.dim() == 2
        and (other.value.dim() == 1)
    )
