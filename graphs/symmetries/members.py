"""Members of a group of matrices: how many there are, and random ones."""

from __future__ import annotations

import torch

from graphs.relate.structure import Structure
from graphs.symmetries.values import Symmetry


def dimension(net: Structure, found: Symmetry) -> int:
    """How many numbers a member of the group may choose freely; 0 where it is none of matrices."""
    n = net.axes[found.axis].size
    if not found.turns:
        return 0
    if found.group == "invertible":
        free = n * n
    else:
        free = (n - 1) * (n - 2) // 2 if found.keeps_ones else n * (n - 1) // 2
    return free * (net.axes[found.per].size if found.per else 1)


def random_member(net: Structure, found: Symmetry, generator: torch.Generator) -> torch.Tensor:
    """A random member of the group of an axis.

    Args:
        net: the network.
        found: a symmetry with a group of matrices.
        generator: on the CPU.

    Returns:
        float64 (units, units), or (units of `per`, units, units). Rotations are drawn evenly;
        invertible matrices have singular values between 1/2 and 2.
    """
    n, per = net.axes[found.axis].size, found.per
    count = () if per is None else (net.axes[per].size,)
    if found.group == "invertible":
        left, right = (_rotation(n, count, generator) for _ in range(2))
        values = 2 ** (2 * torch.rand(*count, n, generator=generator, dtype=torch.float64) - 1)
        return left * values[..., None, :] @ right
    if not found.keeps_ones:
        return _rotation(n, count, generator)
    basis = ones_first(n)
    inner = torch.eye(n, dtype=torch.float64).expand(*count, n, n).clone()
    inner[..., 1:, 1:] = _rotation(n - 1, count, generator)
    return basis @ inner @ basis.mT


def ones_first(n: int) -> torch.Tensor:
    """An orthonormal basis, column by column, whose first vector is that of ones over √n.

    Returns:
        float64 (n, n). In it, M with M·1 = 1 is a one beside any rotation of n − 1 features.
    """
    start = torch.eye(n, dtype=torch.float64)
    start[:, 0] = 1
    basis, sign = torch.linalg.qr(start)
    return basis * sign.diagonal().sign()


def _rotation(n: int, count: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Even random rotations (and reflections): Mezzadri 2007."""
    drawn = torch.randn(*count, n, n, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(drawn)
    return basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
