"""Soft removal: multiply what produces a unit by the unit's mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from graphs.dims import atoms
from pruners.units import to_positions

if TYPE_CHECKING:
    from graphs import Network


def mask_values(
    net: Network,
    unit_masks: Mapping[str, torch.Tensor],
    values: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    r"""Values of a network whose units are faded by masks; differentiable in masks and values.

    Every producing position p of every tensor is multiplied by Π m_a(u_a(p)) over the masked axes a
    along it. A mask of 0 makes the unit dead; on axes of class *exact* the function then equals
    that of the network without the unit. Running means are multiplied by the same factor and
    running variances by its square, because they describe the masked activations: a batch norm
    after a half-masked channel sees the same normalised values, and its own scale fades them.

    Args:
        net: the network.
        unit_masks: axis name → factors of shape (size,), usually in [0, 1].
        values: tensor name → value to mask instead of the network's own.

    Returns:
        Tensor name → masked value in its own dtype, for the tensors that a masked axis produces,
        together with everything in `values`. Fit for `net.replace` and `functional_call`.

    Raises:
        ValueError: an axis the network does not have, or a mask of the wrong shape.
    """
    for name, mask in unit_masks.items():
        if name not in net.axes:
            raise ValueError(f'mask for axis "{name}", which the network does not have')
        if mask.shape != (net.axes[name].size,):
            raise ValueError(
                f'mask of axis "{name}": expected shape ({net.axes[name].size},) '
                f"(got {tuple(mask.shape)})"
            )
    result = dict(values or {})
    for name, tensor in net.tensors.items():
        value = result.get(name, tensor.value)
        statistic = tensor.role in ("running_mean", "running_var")
        if not value.is_floating_point():
            continue
        for i, (dim, produced) in enumerate(zip(tensor.dims, tensor.produces, strict=True)):
            for axis in atoms(dim):
                if axis not in unit_masks or not (produced or statistic):
                    continue
                factor = to_positions(unit_masks[axis].to(value), dim, axis, net.axes)
                if tensor.role == "running_var":
                    factor = factor.square()
                shape = [1] * value.ndim
                shape[i] = -1
                value = value * factor.reshape(shape)
                result[name] = value
    return result
