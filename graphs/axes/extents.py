"""Products of dimensions as functions of the axis sizes, taken apart once and counted often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphs.axes.dims import Atom, Dim, Fixed, Prod, Sum, size


@dataclass(frozen=True)
class Total:
    """A number + the sizes of some axes + the sizes of other dimensions: a concatenation."""

    number: int
    axes: tuple[str, ...]
    others: tuple[Dim, ...]

    @classmethod
    def of(cls, dim: Sum) -> Total:
        """The number of positions along a concatenation."""
        number = sum(term.size for term in dim.terms if isinstance(term, Fixed))
        axes = tuple(term.axis for term in dim.terms if isinstance(term, Atom))
        return cls(number, axes, tuple(t for t in dim.terms if not isinstance(t, Fixed | Atom)))

    def count(self, sizes: Mapping[str, int]) -> int:
        """The total for these sizes of axes."""
        found = self.number + sum(map(sizes.__getitem__, self.axes))
        return found + sum(size(dim, sizes) for dim in self.others)


@dataclass(frozen=True)
class Product:
    """A number × the sizes of some axes × some totals.

    Args:
        number: product of everything that is fixed.
        axes: names of axes, repeated where one is squared.
        totals: one for each concatenation.
    """

    number: int
    axes: tuple[str, ...]
    totals: tuple[Total, ...]

    @classmethod
    def of(cls, dims: Iterable[Dim]) -> Product:
        """The number of positions in all of `dims` together."""
        number, axes, totals = 1, [], []
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
                totals.append(Total.of(dim))
        return cls(number, tuple(axes), tuple(totals))

    def count(self, sizes: Mapping[str, int]) -> int:
        """The product for these sizes of axes."""
        found = self.number
        for axis in self.axes:
            found *= sizes[axis]
        for total in self.totals:
            found *= total.count(sizes)
        return found
