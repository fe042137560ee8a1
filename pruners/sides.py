"""pruners.sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphs import Network


def out_dims(net: Network, names: Iterable[str]) -> dict[str, int]:
    """The dimension of every weight that produces units: 0 for torch's own layers."""
    found = {}
    for name in names:
        produces = net.tensors[name].produces
        found[name] = produces.index(True) if True in produces else 0
    return found


def matrix_shape(net: Network, name: str) -> tuple[int, int]:
    """(outputs, taps · inputs) of a weight: the shape of `pruners.solvers.as_matrix`."""
    value = net.tensors[name].value
    rows = value.shape[out_dims(net, [name])[name]]
    return rows, value.numel() // rows
