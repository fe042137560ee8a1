"""Products of dimensions as functions of the axis sizes, taken apart once and counted often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphs.dims import Atom, Dim, Fixed, Prod, Sum, size


@dataclass(frozen=True)
class Product:
    """A number × the sizes of some axes × the sizes of some concatenations.

    Args:
        number: product of everything that is fixed.
        axes: names of axes, repeated where one is squared.
        sums: concatenations.
    """

    number: int
    axes: tuple[str, ...]
    sums: tuple[Sum, ...]

    @classmethod
    def of(cls, dims: Iterable[Dim]) -> Product:
        """The number of positions in all of `dims` together."""
        number, axes, sums = 1, [], []
        left = list(dims)
        while left:
            dim = left.pop()
            if isinstance(dim, Fixed):
                number *= dim.size
            elif isinstance(dim, Atom):
                axes.append(dim.axis)
            elif isinstance(dim, Prod):
                left.extend(dim.factors)
            else:
                sums.append(dim)
        return cls(number, tuple(axes), tuple(sums))

    def count(self, sizes: Mapping[str, int]) -> int:
        """The product for these sizes of axes."""
        found = self.number
        for axis in self.axes:
            found *= sizes[axis]
        for dim in self.sums:
            found *= size(dim, sizes)
        return found
