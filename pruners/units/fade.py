"""Soft removal: multiply what produces a unit by the unit's mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import atoms
from pruners.norms import normalized_producers
from pruners.positions import to_positions

if TYPE_CHECKING:
    from graphs import Network

PRODUCING_ROLES = ("weight", "bias", "scale", "embedding", "constant")


def mask_values(
    net: Network,
    unit_masks: Mapping[str, torch.Tensor],
    values: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    r"""Values of a network whose units are faded by masks; differentiable in masks and values.

    Every producing position p of a tensor is multiplied by Π m_a(u_a(p)) over the masked axes a
    along it. A mask of 0 makes the unit dead; on axes of class *exact* the function then equals
    that of the network without the unit. A linear map whose result goes straight into a batch norm
    is left as it is, because the norm's own scale and shift fade the unit: what leaves the norm is
    exactly m times the original, in evaluation and in training, and so is its gradient. Running
    statistics are never masked.

    Args:
        net: the network.
        unit_masks: axis name → factors of shape (size,), usually in [0, 1].
        values: tensor name → value to mask instead of the network's own.

    Returns:
        Tensor name → masked value in its own dtype, for the tensors that are masked, together with
        everything in `values`. Fit for `net.replace` and `functional_call`.

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
    exempt = normalized_producers(net)
    for name, tensor in net.tensors.items():
        value = result.get(name, tensor.value)
        if tensor.role not in PRODUCING_ROLES or name in exempt or not value.is_floating_point():
            continue
        for i in tensor.making:
            dim = tensor.dims[i]
            for axis in atoms(dim):
                if axis not in unit_masks:
                    continue
                factor = to_positions(unit_masks[axis].to(value), dim, axis, net.axes)
                shape = [1] * value.ndim
                shape[i] = -1
                value = value * factor.reshape(shape)
                result[name] = value
    return result
