"""A network whose axes have other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from graphs.axes.dims import Axis, Dim, atoms
from graphs.relate.assembly import map_dims, renamed_dim
from graphs.relate.structure import Structure

Net = TypeVar("Net", bound=Structure)


def named_like(net: Net, other: Structure) -> Net:
    """A network with the names of another for the axes that the same tensors run along.

    Axes that the other has not keep their names, with a number behind where one is taken.

    Args:
        net: the network.
        other: a network with tensors of the same names and shapes, traced from the same class.
    """
    naming: dict[str, str] = {}
    for name, tensor in net.tensors.items():
        known = other.tensors.get(name)
        if known is None:
            continue
        for dim, old in zip(tensor.dims, known.dims, strict=True):
            if len(atoms(dim)) == len(atoms(old)):
                for new, wanted in zip(atoms(dim), atoms(old), strict=True):
                    if wanted not in naming.values():
                        naming.setdefault(new, wanted)
    taken = set(naming.values())
    for name in net.axes:
        if name not in naming:
            label, k = name, 1
            while label in taken:
                k += 1
                label = f"{name}.{k}"
            naming[name] = label
            taken.add(label)
    return _renamed(net, naming)


def _renamed(net: Net, naming: Mapping[str, str]) -> Net:
    def dim(old: Dim) -> Dim:
        return renamed_dim(old, naming)

    def dims(old: tuple[Dim, ...]) -> tuple[Dim, ...]:
        return tuple(map(dim, old))

    def axes(old: Mapping[str, Axis]) -> Mapping[str, Axis]:
        return {naming[name]: replace(axis, name=naming[name]) for name, axis in old.items()}

    program = replace(
        net.program,
        dims={node: dims(held) for node, held in net.program.dims.items()},
        arguments={
            node: {where: map_dims(value, dim) for where, value in given.items()}
            for node, given in net.program.arguments.items()
        },
        costs=tuple(replace(cost, dims=dims(cost.dims)) for cost in net.program.costs),
        rescales=tuple(replace(r, dim=dim(r.dim)) for r in net.program.rescales),
    )
    tensors = {name: replace(t, dims=dims(t.dims)) for name, t in net.tensors.items()}
    return replace(
        net,
        axes=MappingProxyType(axes(net.axes)),
        tensors=MappingProxyType(tensors),
        program=program,
        source=replace(net.source, axes=axes(net.source.axes)),
    )
