"""Both sides of weights as transformations read them: measured, or weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pruners.curves import Sides, measure_sides
from pruners.solvers.matrix import as_matrix, matrix_shape

if TYPE_CHECKING:
    from graphs import Network


def sides_of(net: Network, batches: Sequence[Any], names: Sequence[str]) -> dict[str, Sides]:
    """Weight name → both sides, of weights without groups.

    Args:
        net: the network; its own weights are run.
        batches: inputs of the model; without any, all inputs and outputs count alike.
        names: of the weights.

    Raises:
        ValueError: a weight, or what is measured, is not finite.
    """
    if batches:
        found = measure_sides(net, net.to_model(), batches, names)
    else:
        found = {name: _bare(net, name) for name in names}
    return {
        name: one
        for name, one in found.items()
        if len(one.weight) == 1 and one.weight[0].shape == matrix_shape(net, name)
    }


def _bare(net: Network, name: str) -> Sides:
    tensor = net.tensors[name]
    weight = as_matrix(tensor.value.detach(), tensor.output_dim).double()
    if not bool(weight.isfinite().all()):
        raise ValueError(
            f'weight "{name}" is not finite (got inf or NaN); repair the checkpoint first'
        )
    rows, columns = (torch.eye(n).to(weight)[None] for n in weight.shape)
    return Sides(weight[None], columns, rows, 0.0, "there is no calibration")
