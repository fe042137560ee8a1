"""Facts of axes beside their expected losses, in numbers that no symmetry of the network changes.

They are what a value may learn from: permuting the units of an axis, scaling them against their
readers, and renaming axes leave all of them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import atoms
from graphs.cost import count_macs
from pruners.curves.axes import AxisCurve, lost_by_reader, readers_of
from pruners.curves.sides import Sides

if TYPE_CHECKING:
    from graphs import Network

QUARTERS = (0.0, 0.25, 0.5, 0.75)
"""Shares of the units at which curves are looked at; at 0 one unit is left."""

FACTS = (
    "logarithm of the size",
    "logarithm of the share in all that units cost",
    "place among the axes, from 0 to 1",
    "axes behind",
    "whether several weights write it",
    "logarithm of the number of readers",
    "logarithm of its share in the expected loss of all axes",
    *(
        f"logarithm of the expected loss with {q:.0%} of the units, of that without"
        for q in QUARTERS
    ),
    *(f"mean error of readers with {q:.0%} of the units, of their outputs" for q in QUARTERS[1:]),
    *(f"largest error of readers with {q:.0%} of the units" for q in QUARTERS[1:]),
    "effective rank of the curvature of readers, of their outputs",
    "effective rank of the moments of their inputs, of those",
)
"""What the columns of `Facts.table` are."""


@dataclass(frozen=True)
class Facts:
    """Facts of the axes of a network.

    Args:
        axes: names, in the order in which data reaches them.
        table: (L, len(FACTS)), float64.
        reads: whether a weight reads the first axis and writes the second, (L, L), bool, above the
            diagonal.
        mean, largest: axis → error of its readers after a refit, as a share of the energy of their
            outputs, with 1, 2, ... units left, mean and largest over readers, (size,), float64.
    """

    axes: tuple[str, ...]
    table: torch.Tensor
    reads: torch.Tensor
    mean: Mapping[str, torch.Tensor]
    largest: Mapping[str, torch.Tensor]


def facts_of(net: Network, sides: Mapping[str, Sides], curves: Mapping[str, AxisCurve]) -> Facts:
    """Facts of the axes that have curves.

    Args:
        net: the dense network.
        sides: of its weights.
        curves: axis name → curve.
    """
    place = {name: i for i, name in enumerate(sides)}
    first = {axis: len(place) for axis in curves}
    writers = dict.fromkeys(curves, 0)
    for name in sides:
        for axis in _written(net, name):
            if axis in first:
                first[axis] = min(first[axis], place[name])
                writers[axis] += 1
    axes = tuple(sorted(curves, key=lambda axis: first[axis] if writers[axis] else -1))
    flat = {name: _without_curvature(one) for name, one in sides.items()}
    readers, plain = readers_of(net, sides, axes), readers_of(net, flat, axes)
    errors = {
        axis: torch.stack(
            [
                lost_by_reader(one, curves[axis].order) / max(one.sides.energy, 1e-30)
                for one in plain[axis]
            ]
        )
        for axis in axes
    }
    dense = {axis: net.axes[axis].size for axis in axes}
    whole = count_macs(net)
    costs = {
        a: abs(whole - count_macs(net, {**dense, a: max(1, dense[a] - 1)})) * dense[a] for a in axes
    }
    energies = {axis: sum(one.sides.energy for one in readers[axis]) for axis in axes}
    total, cost = sum(energies.values()), max(sum(costs.values()), 1)
    rows = []
    for i, axis in enumerate(axes):
        size, energy = dense[axis], log(energies[axis] + 1e-7)
        losses = [log(max(curves[axis].curve.at(_units(q, size)), 1e-9)) - energy for q in QUARTERS]
        at = [_units(q, size) - 1 for q in QUARTERS[1:]]
        rows.append(
            [
                log(size),
                log(costs[axis] / cost + 1e-6),
                i / max(len(axes) - 1, 1),
                len(axes) - 1 - i,
                float(writers[axis] > 1),
                log(len(readers[axis])),
                energy - log(total + 1e-7),
                *losses,
                *errors[axis].mean(0)[at].tolist(),
                *errors[axis].amax(0)[at].tolist(),
                _mean(
                    _rank(one.sides.curvature) / one.sides.weight.shape[1] for one in readers[axis]
                ),
                _mean(
                    _rank(one.sides.hessian) / one.sides.weight.shape[2] for one in readers[axis]
                ),
            ]
        )
    reads = torch.zeros(len(axes), len(axes), dtype=torch.bool)
    index = {axis: i for i, axis in enumerate(axes)}
    for name in sides:
        tensor = net.tensors[name]
        assert tensor.input_dim is not None
        for one in atoms(tensor.dims[tensor.input_dim]):
            for other in _written(net, name):
                if one in index and other in index and index[one] < index[other]:
                    reads[index[one], index[other]] = True
    return Facts(
        axes,
        torch.tensor(rows, dtype=torch.float64).reshape(len(axes), len(FACTS)),
        reads,
        {axis: errors[axis].mean(0) for axis in axes},
        {axis: errors[axis].amax(0) for axis in axes},
    )


def _without_curvature(one: Sides) -> Sides:
    size = one.weight.shape[1]
    return replace(one, curvature=torch.eye(size).to(one.weight).expand(len(one.weight), -1, -1))


def _written(net: Network, name: str) -> list[str]:
    """Axes along the outputs of a weight."""
    tensor = net.tensors[name]
    sides = [dim for i, dim in enumerate(tensor.dims) if i != tensor.input_dim]
    return [axis for dim in sides for axis in atoms(dim)]


def _units(share: float, size: int) -> int:
    return min(size, max(1, round(share * size)))


def _rank(matrices: torch.Tensor) -> float:
    """tr(M)² / tr(M²), a mean over (groups, n, n)."""
    trace = matrices.double().diagonal(dim1=-2, dim2=-1).sum(-1)
    return float(
        (trace.square() / matrices.double().square().sum((-1, -2)).clamp_min(1e-30)).mean()
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
