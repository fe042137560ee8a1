r"""Curves of axes: what all weights that read an axis lose when only some of its units are left.

With the columns of a reader in the order of their units, the most important first, and H = LLᵀ the
Cholesky factorisation in that order, the Schur complement of the first units is that of the last
columns of L alone. So the error after the best refit on the first n units is, for every n at once,

    ½ tr(G W_r S W_rᵀ) = ½ Σ_{columns c of units > n} t_cᵀ G t_c,      T = W L.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import atoms, unit_index
from graphs.tools.registry import unknown
from pruners.curves.curve import Curve
from pruners.curves.sides import Sides
from pruners.units.second_order import Consumer, factored, greedy

if TYPE_CHECKING:
    from graphs import Network

DAMPING = 1e-3
"""Share of the variance of every input that is added to it, as in the refit."""

ORDERS = ("loss", "given", "mixed")


def check_order(order: str) -> None:
    """Refuse an order that is none of `ORDERS`.

    Raises:
        ValueError: it is none.
    """
    if order not in ORDERS:
        raise ValueError(unknown("order", order, ORDERS))


@dataclass(frozen=True)
class AxisCurve:
    """What an axis loses, and the order in which its units stay.

    Args:
        curve: over the number of units that stay, from 1 to all.
        order: unit indices, the first to stay first, (size,).
    """

    curve: Curve
    order: torch.Tensor


@dataclass(frozen=True)
class Reader:
    """A weight that reads an axis; `unit` names the unit of every column, −1 for none."""

    sides: Sides
    unit: torch.Tensor


def axis_curves(
    net: Network,
    sides: Mapping[str, Sides],
    axes: Iterable[str],
    scores: Mapping[str, torch.Tensor],
    order: str = "loss",
) -> dict[str, AxisCurve]:
    """Curves of axes over their widths, with a least-squares refit of their readers.

    Args:
        net: the network.
        sides: of its weights.
        axes: names.
        scores: axis name → scores of units, for the orders "given" and "mixed".
        order: of the units inside an axis: "loss": the one that costs least after a refit of all
            others goes, again and again; "given": the scores; "mixed": the mean of both ranks.

    Returns:
        Axis name → curve; axes without a measured reader are missing.

    Raises:
        ValueError: an unknown order.
    """
    check_order(order)
    found = {}
    for axis, readers in readers_of(net, sides, axes).items():
        size = net.axes[axis].size
        given = scores[axis].detach().double().cpu()
        ranked = given
        if order != "given":
            _, gone = greedy([_weighed(reader) for reader in readers], size)
            ranked = torch.empty_like(given)
            ranked[gone] = torch.arange(size, dtype=torch.float64)
        if order == "mixed":
            # Of units with the same mean, the one goes that costs less.
            ranked = ranked + _places(given) + ranked / (2 * size)
        chosen = ranked.argsort(descending=True, stable=True)
        lost = sum(
            (lost_by_reader(reader, chosen) for reader in readers), torch.zeros(size).double()
        )
        found[axis] = AxisCurve(Curve.of(range(1, size + 1), lost.tolist()), chosen)
    return found


def readers_of(
    net: Network, sides: Mapping[str, Sides], axes: Iterable[str]
) -> dict[str, list[Reader]]:
    """Axis name → the measured weights that read it."""
    wanted = set(axes)
    found: dict[str, list[Reader]] = {}
    for name, one in sides.items():
        tensor = net.tensors[name]
        side = tensor.input_dim
        if side is None:
            continue
        taps = one.weight.shape[2] // tensor.value.shape[side]
        for axis in wanted.intersection(atoms(tensor.dims[side])):
            unit = unit_index(tensor.dims[side], axis, net.axes).repeat(taps)
            columns = unit[unit >= 0].bincount(minlength=net.axes[axis].size)
            if int(columns.min()) != int(columns.max()):
                continue  # what reads some of the units does not rank all of them
            found.setdefault(axis, []).append(Reader(one, unit.to(one.weight.device)))
    return {axis: found[axis] for axis in net.axes if axis in found}


def _weighed(reader: Reader) -> Consumer:
    """The reader with rows F W, FᵀF = G: its squared errors are expected losses."""
    one = reader.sides
    values, vectors = torch.linalg.eigh(one.curvature)
    rows = (vectors * values.clamp_min(0).sqrt()[:, None]).mT @ one.weight
    # Inputs that never vary cost nothing, whatever reads them.
    rows = rows * (one.hessian.diagonal(dim1=1, dim2=2) > 0)[:, None]
    return replace(Consumer.of(rows, one.hessian, reader.unit.cpu(), DAMPING, False), energy=2.0)


def lost_by_reader(reader: Reader, order: torch.Tensor) -> torch.Tensor:
    """Expected loss with the first 1, 2, ... units of the order, (size,); see the module."""
    one = reader.sides
    size = len(order)
    place = torch.empty(size + 1, dtype=torch.int64)
    place[order + 1] = torch.arange(size)
    place[0] = -1  # columns of no unit of this axis stay
    of_column = place[reader.unit.cpu() + 1]
    columns = of_column.argsort(stable=True).to(one.weight.device)
    hessian = one.hessian[:, columns][:, :, columns]
    factor, units = factored(hessian, DAMPING)
    units = units * (hessian.diagonal(dim1=1, dim2=2) > 0)
    mapped = (one.weight[:, :, columns] * units[:, None]) @ factor
    each = (mapped * (one.curvature @ mapped)).sum((0, 1)) / 2  # (in,)
    lost = torch.zeros(size + 1, dtype=torch.float64)
    lost.index_add_(0, of_column[columns.cpu()] + 1, each.double().cpu())
    # What goes with n units left are all units behind them.
    behind = lost[1:].flip(0).cumsum(0).flip(0)
    return torch.cat([behind[1:], behind.new_zeros(1)])


def _places(scores: torch.Tensor) -> torch.Tensor:
    """Rank of every unit from below: the higher the more worth keeping, the first of equals too."""
    return len(scores) - 1 - scores.argsort(descending=True, stable=True).argsort().double()
