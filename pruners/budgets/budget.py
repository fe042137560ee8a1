"""A budget as a value: what stays of every tensor and axis, whatever the way it is removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pruners.solvers.matrix import matrix_shape

if TYPE_CHECKING:
    from graphs import Network
    from pruners.plan import Plan


@dataclass(frozen=True)
class Budget:
    """Sparsity, rank and width in one object.

    A matrix (m, n) that is named in both `density` and `rank` becomes S + U·V: it stores
    density·m·n numbers of S and rank·(m + n) of the factors.

    Args:
        density: tensor name → kept share of its weights; tensors that are not named stay dense,
            unless they have a rank, and then they are U·V alone.
        rank: tensor name → rank of its low-rank part.
        width: axis name → units that stay; axes that are not named stay whole.
    """

    density: Mapping[str, float] = field(default_factory=dict)
    rank: Mapping[str, int] = field(default_factory=dict)
    width: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, share in self.density.items():
            if not 0 <= share <= 1:
                raise ValueError(f'density of "{name}" must be from 0 to 1 (got {share!r})')
        for what, numbers in (("rank", self.rank), ("width", self.width)):
            for name, number in numbers.items():
                if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                    raise ValueError(f'{what} of "{name}" must be a whole number (got {number!r})')

    def check(self, net: Network) -> None:
        """Refuse a network that the budget does not fit.

        Raises:
            ValueError: a tensor or axis that is missing, too narrow, or frozen.
        """
        for name in (*self.density, *self.rank):
            if name not in net.tensors:
                raise ValueError(f'the budget names tensor "{name}", which this network lacks')
        for name, rank in self.rank.items():
            rows, columns = matrix_shape(net, name)
            if rank > min(rows, columns):
                raise ValueError(
                    f'"{name}" is a matrix of {rows} × {columns}, so its rank is at most '
                    f"{min(rows, columns)} (got {rank})"
                )
        for name, width in self.width.items():
            axis = net.axes.get(name)
            if axis is None:
                raise ValueError(f'the budget names axis "{name}", which this network lacks')
            if not 1 <= width <= axis.size or (axis.frozen is not None and width < axis.size):
                why = axis.frozen or f"it has {axis.size} units"
                raise ValueError(f'axis "{name}" cannot keep {width} units: {why}')

    def stored(self, net: Network) -> dict[str, int]:
        """Numbers that stay of every tensor the budget names, at the network's own widths."""
        found = {}
        for name in dict.fromkeys((*self.density, *self.rank)):
            rows, columns = matrix_shape(net, name)
            share = self.density.get(name, 0.0)
            found[name] = round(share * rows * columns) + self.rank.get(name, 0) * (rows + columns)
        return found

    def kept(self, net: Network) -> float:
        """Share of the numbers of the named tensors that is stored; 1 where none is named."""
        stored = self.stored(net)
        dense = sum(net.tensors[name].value.numel() for name in stored)
        return sum(stored.values()) / dense if dense else 1.0

    @classmethod
    def of(cls, plan: Plan) -> Budget:
        """The budget that a plan carries."""
        return cls(density=dict(plan.density), rank=dict(plan.rank), width=plan.sizes())
