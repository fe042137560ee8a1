"""Groups in words: what makes the units, what reads them, and what goes with one of them."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, prod

from graphs import Network
from graphs.axes.dims import Dim, atoms, size
from metaprune.inspection.schema import Group

WEIGHTS = ("weight", "embedding")


def groups(net: Network) -> tuple[Group, ...]:
    """Every axis that may be pruned, in the order of the network."""
    saved_params = _savings(net, [net.tensors[name].dims for name in net.source.parameters])
    saved_macs = _savings(net, [cost.dims for cost in net.program.costs])
    return tuple(
        Group(
            axis=group.axis.name,
            units=group.axis.size,
            kind=group.axis.kind,
            exactness=group.axis.exactness,
            made_by=_modules(net, group.tensors, True),
            read_by=_modules(net, group.tensors, False),
            slices=tuple(f"{name}[{i}]" for name, i in group.tensors),
            params_saved=saved_params.get(group.axis.name, 0),
            macs_saved=saved_macs.get(group.axis.name, 0) // net.program.batch,
        )
        for group in net.groups()
        if group.axis.frozen is None
    )


def floors(net: Network, min_units: float | int, spared: Iterable[str] = ()) -> dict[str, int]:
    """Fewest units of every axis that may be pruned.

    Args:
        net: the network.
        min_units: a share of every axis (float up to 1) or a number of units (int); at least one.
        spared: kinds of units that stay whole.
    """
    return {
        axis.name: axis.size
        if axis.kind in spared
        else min(
            axis.size,
            max(1, ceil(min_units * axis.size) if isinstance(min_units, float) else min_units),
        )
        for axis in net.axes.values()
        if axis.frozen is None
    }


def _savings(net: Network, products: Iterable[tuple[Dim, ...]]) -> dict[str, int]:
    """Axis → how much the sum of products of sizes falls when one unit goes."""
    sizes = {name: axis.size for name, axis in net.axes.items()}
    saved: dict[str, int] = {}
    for dims in products:
        whole = prod(size(dim, sizes) for dim in dims)
        for axis in {a for dim in dims for a in atoms(dim)}:
            sizes[axis] -= 1
            saved[axis] = saved.get(axis, 0) + whole - prod(size(dim, sizes) for dim in dims)
            sizes[axis] += 1
    return saved


def _modules(net: Network, places: Iterable[tuple[str, int]], produces: bool) -> tuple[str, ...]:
    """Modules whose weights produce, or read, along the named dimensions."""
    found = {
        layer_name(name): None
        for name, i in places
        if net.tensors[name].role in WEIGHTS and net.tensors[name].produces[i] is produces
    }
    return tuple(found)


def layer_name(tensor: str) -> str:
    """The module of a weight; the weight's own name where it is not called `weight`."""
    return tensor.removesuffix(".weight")
