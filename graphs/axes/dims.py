"""Dimensions as values: concatenations of products of axes.

A dimension of a tensor is an immutable expression over axes,

    Dim  =  Fixed(n)                 n positions without units (kernel taps, tokens, a batch)
         |  Atom(axis)               the units of one axis, in order
         |  Prod((d1, d2, ...))      row-major product: position = i1 * |d2| * ... + i2 * ... + ...
         |  Sum((d1, d2, ...))       concatenation

so `flatten` of [C, H, W] is `Prod((C, Fixed(H*W)))` and a fused query/key/value output is
`Sum((q, k, v))`. `unit_index` is the one primitive that slicing, scoring and message passing need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TypeAlias

import torch

# From "removing dead units changes nothing" to "never removed"; see `graphs.relate.exactness`.
EXACTNESS = (
    "exact",
    "bias-fold",
    "norm-rescaled",
    "norm-changed",
    "data-dependent",
    "refused",
)


@dataclass(frozen=True)
class Axis:
    """An ordered set of interchangeable units shared by every tensor dimension that names it.

    Args:
        name: unique within a network.
        size: number of units.
        kind: what a unit is, in the field's words (`channel`, `feature`, `head`, ...).
        frozen: why the axis is never cut nor permuted, or None.
        exactness: what removing dead units does to the function, one of `EXACTNESS`.
        minimum: fewest units that must stay (a router that picks two keeps two experts).
    """

    name: str
    size: int
    kind: str = "channel"
    frozen: str | None = None
    exactness: str = "exact"
    minimum: int = 1


@dataclass(frozen=True)
class Fixed:
    """`size` positions that carry no units; `reason` says what they are."""

    size: int
    reason: str = "fixed"

    def __str__(self) -> str:
        return str(self.size)


@dataclass(frozen=True)
class Atom:
    """The units of one axis."""

    axis: str

    def __str__(self) -> str:
        return self.axis


@dataclass(frozen=True)
class Prod:
    """Row-major product of dimensions (the last factor varies fastest)."""

    factors: tuple[Dim, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See `atoms`."""
        return tuple(dict.fromkeys(name for factor in self.factors for name in atoms(factor)))

    def __str__(self) -> str:
        return "×".join(f"({f})" if isinstance(f, Sum) else str(f) for f in self.factors)


@dataclass(frozen=True)
class Sum:
    """Concatenation of dimensions."""

    terms: tuple[Dim, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See `atoms`."""
        return tuple(dict.fromkeys(name for term in self.terms for name in atoms(term)))

    def __str__(self) -> str:
        return " | ".join(map(str, self.terms))


Dim: TypeAlias = Fixed | Atom | Prod | Sum


def size(dim: Dim, axes: Mapping[str, Axis] | Mapping[str, int]) -> int:
    """Number of positions along `dim`; `axes` maps names to `Axis` values or plain sizes."""
    if isinstance(dim, Fixed):
        return dim.size
    if isinstance(dim, Atom):
        axis = axes[dim.axis]
        return axis.size if isinstance(axis, Axis) else axis
    if isinstance(dim, Prod):
        return prod(size(f, axes) for f in dim.factors)
    return sum(size(t, axes) for t in dim.terms)


def atoms(dim: Dim) -> tuple[str, ...]:
    """Names of the axes in `dim`, in order of appearance, without repeats."""
    if isinstance(dim, Atom):
        return (dim.axis,)
    if isinstance(dim, Fixed):
        return ()
    return dim.names


def all_atoms(dims: Iterable[Dim]) -> frozenset[str]:
    """Names of the axes in any of `dims`."""
    return frozenset(name for dim in dims for name in atoms(dim))


def unit_index(dim: Dim, axis: str, axes: Mapping[str, Axis] | Mapping[str, int]) -> torch.Tensor:
    """For every position along `dim`, its unit of `axis`, or -1 where `axis` is not involved.

    Returns:
        int64 tensor of shape (size(dim),).
    """
    if isinstance(dim, Atom) and dim.axis == axis:
        return torch.arange(size(dim, axes))
    if isinstance(dim, Sum):
        return torch.cat([unit_index(t, axis, axes) for t in dim.terms])
    if isinstance(dim, Prod):
        index = torch.full((1,), -1)
        for factor in dim.factors:
            part = unit_index(factor, axis, axes)
            # An axis occurs in one factor of a product at most (the solver refuses a square),
            # so wherever `part` names a unit, `index` is still -1.
            grid = torch.where(part >= 0, part, index[:, None].expand(-1, part.numel()))
            index = grid.reshape(-1)
        return index
    return torch.full((size(dim, axes),), -1)


def kept_positions(
    dim: Dim, kept: Mapping[str, torch.Tensor], axes: Mapping[str, Axis]
) -> torch.Tensor | None:
    """Positions of `dim` that survive when each axis in `kept` keeps the given units, in order.

    Args:
        dim: the dimension to slice.
        kept: axis name → int64 unit indices in their new order (a subset, or a permutation).
        axes: the axes before slicing.

    Returns:
        int64 positions, or None when no axis of `dim` is in `kept`.
    """
    if not any(name in kept for name in atoms(dim)):
        return None
    if isinstance(dim, Atom):
        return kept[dim.axis]

    def of(child: Dim) -> torch.Tensor:
        found = kept_positions(child, kept, axes)
        return torch.arange(size(child, axes)) if found is None else found

    if isinstance(dim, Sum):
        offset, parts = 0, []
        for term in dim.terms:
            parts.append(of(term) + offset)
            offset += size(term, axes)
        return torch.cat(parts)
    assert isinstance(dim, Prod)
    index = torch.zeros(1, dtype=torch.int64)
    for factor in dim.factors:
        index = (index[:, None] * size(factor, axes) + of(factor)).reshape(-1)
    return index


def concat(terms: Iterable[Dim]) -> Dim:
    """Concatenation in normal form: flat, without empty terms, neighbouring fixed parts merged."""
    flat: list[Dim] = []
    for term in terms:
        for part in term.terms if isinstance(term, Sum) else (term,):
            if isinstance(part, Fixed) and part.size == 0:
                continue
            last = flat[-1] if flat else None
            if isinstance(part, Fixed) and isinstance(last, Fixed):
                flat[-1] = Fixed(last.size + part.size, last.reason)
            else:
                flat.append(part)
    if not flat:
        return Fixed(0)
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def product(factors: Iterable[Dim]) -> Dim:
    """Product in normal form: flat, without factors of size 1, neighbouring fixed parts merged.

    A concatenation in the leading place is distributed, (a | b) × c = a×c | b×c, because those
    terms are contiguous and can be sliced apart.
    """
    flat: list[Dim] = []
    for factor in factors:
        for part in factor.factors if isinstance(factor, Prod) else (factor,):
            if isinstance(part, Fixed) and part.size == 1:
                continue
            last = flat[-1] if flat else None
            if isinstance(part, Fixed) and isinstance(last, Fixed):
                flat[-1] = Fixed(last.size * part.size, last.reason)
            else:
                flat.append(part)
    if not flat:
        return Fixed(1)
    if len(flat) == 1:
        return flat[0]
    if isinstance(flat[0], Sum):
        return concat(product((term, *flat[1:])) for term in flat[0].terms)
    return Prod(tuple(flat))
