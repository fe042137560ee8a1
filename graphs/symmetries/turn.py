"""A member of a group of matrices, applied: W → M W where an axis is made, W M⁻¹ where it is read.

rotate(net, axis, M) computes the same function as net
"""

from __future__ import annotations

from typing import TypeVar

import torch

from graphs.axes.dims import atoms, unit_index
from graphs.relate.structure import Structure
from graphs.symmetries.find import symmetry
from graphs.symmetries.positions import runs
from graphs.symmetries.values import Slot, Symmetry
from graphs.tools.arguments import real_numbers

Net = TypeVar("Net", bound=Structure)

# Largest deviation of Mᵀ M from the identity, and of M 1 from 1, of a rotation in float64.
ORTHOGONAL = 1e-9
# Largest condition of an invertible matrix: beyond, M and its inverse do not cancel in float64.
CONDITION = 1e8
# Numbers that are turned at a time.
_CHUNK = 1 << 24


def rotate(net: Net, axis: str, matrix: torch.Tensor) -> Net:
    """The same function with the features of an axis turned by a matrix.

    It is computed in float64, and every tensor keeps its dtype.

    Args:
        net: the network.
        axis: name of an axis whose group is one of matrices, with nothing to fold or untie.
        matrix: M (units, units), or (units of `per`, units, units).

    Raises:
        KeyError: there is no such axis.
        ValueError: M is no member of the group, or things must be folded or untied first.
    """
    found = symmetry(net, axis)
    return turned(net, found, member(net, found, matrix))


def turned(net: Net, found: Symmetry, matrix: torch.Tensor) -> Net:
    """The network with the slots of a symmetry turned, whatever the matrix.

    Args:
        net: the network.
        found: which slots turn.
        matrix: float64, (units, units) or (units of `per`, units, units).
    """
    against = torch.linalg.inv(matrix).mT if found.group == "invertible" else matrix
    sides = ((found.writers, matrix), (found.readers, against))
    slots: dict[str, list[tuple[Slot, torch.Tensor]]] = {}
    for side, factor in sides:
        for slot in side:
            slots.setdefault(slot.tensor, []).append((slot, factor))
    values = {}
    for name, turns in slots.items():
        value = net.tensors[name].value
        exact = value.to(torch.float64)
        for slot, factor in turns:
            exact = _turn(net, exact, slot, found, factor)
        values[name] = exact.to(value.dtype).contiguous()
    return net.replace(values)


def _turn(
    net: Structure, value: torch.Tensor, slot: Slot, found: Symmetry, matrix: torch.Tensor
) -> torch.Tensor:
    """One tensor, with its entries along a slot multiplied by M."""
    dims = net.tensors[slot.tensor].dims
    matrix = matrix.to(value.device)
    places = runs(dims[slot.dim], found.axis, slot.part, net.axes).to(value.device)
    moved = value.movedim(slot.dim, -1).clone()
    chosen = None
    if matrix.dim() == 3:
        assert found.per is not None
        if found.per in atoms(dims[slot.dim]):
            units = unit_index(dims[slot.dim], found.per, net.axes).to(value.device)
            chosen = matrix[units[places[:, 0]]]  # (runs, units, units)
        else:
            other = next(i for i, d in enumerate(dims) if found.per in atoms(d))
            units = unit_index(dims[other], found.per, net.axes).to(value.device)
            place = other - (other > slot.dim)
            lead = [1] * (moved.dim() - 1)
            lead[place] = len(units)
            chosen = matrix[units].view(*lead, 1, *matrix.shape[1:])
    if chosen is None and places.shape == (1, moved.shape[-1]):
        flat = moved.reshape(-1, moved.shape[-1])
        step = max(1, _CHUNK // moved.shape[-1])
        done = torch.cat([rows @ matrix.mT for rows in flat.split(step)]) if len(flat) else flat
        return done.view(moved.shape).movedim(-1, slot.dim)
    taken = moved[..., places]  # (..., runs, units)
    factor = matrix if chosen is None else chosen
    moved[..., places] = (factor @ taken[..., None])[..., 0]
    return moved.movedim(-1, slot.dim)


def member(net: Structure, found: Symmetry, matrix: torch.Tensor) -> torch.Tensor:
    """A matrix in float64, once it is known to be a member of the group.

    Raises:
        ValueError: it is none, with the reason.
    """
    name, n = found.axis, net.axes[found.axis].size
    if not found.turns:
        raise ValueError(f"{name} cannot be turned: {found.blocked}")
    if found.unties:
        names = ", ".join(u.name for u in found.unties)
        raise ValueError(f"{name} cannot be turned yet: untie {names} first (`untie`)")
    if found.folds:
        names = ", ".join(str(f.scale) for f in found.folds)
        raise ValueError(
            f"{name} cannot be turned yet: fold its norms first (`fold_norms`): {names}"
        )
    shapes = [(n, n)] + ([(net.axes[found.per].size, n, n)] if found.per else [])
    wanted = f"{name}: expected a matrix {' or '.join(map(str, shapes))}"
    exact = real_numbers(matrix, wanted).detach().to(torch.float64)
    if tuple(exact.shape) not in shapes:
        raise ValueError(f"{wanted} (got {tuple(exact.shape)})")
    if not bool(exact.isfinite().all()):
        raise ValueError(f"{name}: the matrix is not finite")
    if found.group == "invertible":
        condition = float(torch.linalg.cond(exact).max())
        if not condition < CONDITION:
            raise ValueError(
                f"{name}: the matrix has condition {condition:.2g}, too near to one without an "
                f"inverse (at most {CONDITION:.0e})"
            )
        return exact
    one = torch.eye(n, dtype=torch.float64, device=exact.device)
    off = float((exact.mT @ exact - one).abs().max())
    if off > ORTHOGONAL:
        raise ValueError(
            f"{name}: the matrix must be orthogonal, and MᵀM differs from the identity by "
            f"{off:.2g} (at most {ORTHOGONAL:.0e}); make it in float64"
        )
    moved = float((exact.sum(-1) - 1).abs().max())
    if found.keeps_ones and moved > ORTHOGONAL:
        raise ValueError(
            f"{name}: the matrix must keep the vector of ones, because a mean is taken over its "
            f"units, and M·1 differs from 1 by {moved:.2g}"
        )
    return exact
