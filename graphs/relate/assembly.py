"""The network that a walk over a program found: axes with names, tensors, and the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import nn

from graphs.axes.dims import Atom, Axis, Dim, Prod, Sum, atoms
from graphs.calls.export import guards_of
from graphs.calls.nested import mapped
from graphs.calls.recording import Recorded
from graphs.calls.running import Inputs
from graphs.program.program import Program
from graphs.program.rescale import Rescale, root_mean_square_scales
from graphs.relate.exactness import classify
from graphs.relate.overlooked import overlooked
from graphs.relate.structure import Source, Structure, Tensor
from graphs.relate.walk import Walk
from graphs.rules import Extent, Inverse, Pinned, Value


def assemble(
    walk: Walk,
    structure: nn.Module,
    inputs: Inputs,
    training: Walk | None = None,
    trains_alike: bool = True,
) -> Structure:
    """Solve, name and freeze what is left, and put the values in.

    Args:
        walk: over the whole program.
        structure: a copy of the traced module, for the source of the network.
        inputs: as traced.
        training: beside it, over the forward in training mode, where that is another one.
        trains_alike: whether that is known to make the same calls.
    """
    walk.facts.minimum += [] if training is None else training.facts.minimum
    naming = _name_axes(walk)
    walk.solver.ground(naming)
    final = _Final(walk, naming)
    tensors = _tensors(walk, final)
    dims = _dims(walk, final)
    rescales = root_mean_square_scales(walk.facts, walk.solver.resolve, walk.tensor_dims)
    tensor_dims = {n: t.dims for n, t in tensors.items()}
    forgotten = overlooked(walk.module.graph, dims, tensor_dims)
    if training is not None:
        also = overlooked(training.module.graph, _dims(training, final), tensor_dims)
        forgotten = {**also, **forgotten}
    axes = _axes(walk, naming, tensors, forgotten)
    program = _program(walk, final, dims, rescales)
    stated: dict[str, list[str]] = {}
    for dim, kind in walk.facts.exactness:
        for axis in atoms(final(dim)):
            stated.setdefault(axis, []).append(kind)
    axes = classify(program, tensors, axes, stated)
    names = walk.names
    held = names.aliases, names.parameters, names.buffers
    source = Source(structure, inputs, *held, axes, trains_alike=trains_alike)
    return Structure(MappingProxyType(axes), MappingProxyType(tensors), program, source)


class _Final:
    """Dimensions as the rules left them → in normal form over named axes."""

    def __init__(self, walk: Walk, naming: Mapping[str, str]) -> None:
        self.resolve, self.naming = walk.solver.resolve, naming
        # By identity, because hashing a long concatenation takes as long as renaming it.
        self.found: dict[int, tuple[Dim, Dim]] = {}

    def __call__(self, dim: Dim) -> Dim:
        found = self.found.get(id(dim))
        if found is None:
            found = self.found[id(dim)] = dim, renamed_dim(self.resolve(dim), self.naming)
        return found[1]


def _tensors(walk: Walk, final: _Final) -> dict[str, Tensor]:
    facts, tensors = walk.facts, {}
    for name, dims in walk.tensor_dims.items():
        produces = tuple(
            (name, i) in facts.produced or (name, i) not in facts.consumed for i in range(len(dims))
        )
        role = facts.roles.get(name, "constant")
        tensors[name] = Tensor(walk.names.values[name], tuple(map(final, dims)), role, produces)
    return tensors


def _dims(walk: Walk, final: _Final) -> dict[str, tuple[Dim, ...]]:
    """Node name → dimensions of its results, one after another."""
    found = {}
    for node, held in walk.env.items():
        if node.op == "call_function" and isinstance(held, Value | tuple):
            results = held if isinstance(held, tuple) else (held,)
            values = [value for value in results if isinstance(value, Value)]
            found[node.name] = tuple(final(dim) for value in values for dim in value.dims)
    return found


def _axes(
    walk: Walk,
    naming: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    forgotten: Mapping[str, str],
) -> dict[str, Axis]:
    """The axes that tensors run along, in their order."""
    solver = walk.solver
    minimum: dict[str, int] = {}
    for dim, least in walk.facts.minimum:
        resolved = solver.resolve(dim)
        if isinstance(resolved, Atom):
            minimum[resolved.axis] = max(least, minimum.get(resolved.axis, 1))
        else:
            solver.freeze(resolved, f"top-{least} of several axes")
    back = {new: old for old, new in naming.items()}
    axes = {}
    for name in dict.fromkeys(a for t in tensors.values() for d in t.dims for a in atoms(d)):
        variable = back[name]
        size = solver.sizes[variable]
        frozen = (
            solver.frozen.get(variable)
            or ("it has a single unit" if size == 1 else None)
            or forgotten.get(name)
        )
        least = minimum.get(variable, 1)
        axes[name] = Axis(name, size, solver.kinds[variable], frozen, minimum=least)
    return axes


def _program(
    walk: Walk, final: _Final, dims: Mapping[str, tuple[Dim, ...]], rescales: list[Rescale]
) -> Program:
    return Program(
        graph=walk.module.graph,
        constants=walk.constants,
        dims=dims,
        arguments={
            node: {where: map_dims(value, final) for where, value in given.items()}
            for node, given in walk.facts.arguments.items()
        },
        costs=tuple(replace(c, dims=tuple(map(final, c.dims))) for c in walk.facts.costs),
        batch=walk.batch,
        modules=walk.paths,
        recorded=isinstance(walk.module, Recorded),
        guards=guards_of(walk.module),
        rescales=tuple(replace(r, dim=final(r.dim)) for r in rescales),
    )


def _name_axes(walk: Walk) -> dict[str, str]:
    """Variable → readable name, after the first tensor that produces along it."""
    naming: dict[str, str] = {}
    taken: set[str] = set()
    for consuming in (False, True):
        for name, dims in walk.tensor_dims.items():
            for j, dim in enumerate(dims):
                place = (name, j)
                consumed = place in walk.facts.consumed and place not in walk.facts.produced
                if consumed is not consuming:
                    continue
                resolved = walk.solver.resolve(dim)
                for variable in atoms(resolved):
                    if variable not in naming:
                        label = _label(walk, name, consumed, resolved, variable)
                        naming[variable] = _free(label, taken)
    return naming


def _label(walk: Walk, tensor: str, consumed: bool, dim: Dim, variable: str) -> str:
    module, _, leaf = tensor.rpartition(".")
    label = f"{module or leaf}.{'in' if consumed else 'out'}"
    if isinstance(dim, Atom):
        return label
    return f"{label}.{walk.solver.kinds[variable].replace(' ', '_')}"


def _free(label: str, taken: set[str]) -> str:
    """A label that is not taken yet, which it then is."""
    name, k = label, 1
    while name in taken:
        k += 1
        name = f"{label}.{k}"
    taken.add(name)
    return name


def renamed_dim(dim: Dim, naming: Mapping[str, str]) -> Dim:
    """`dim` over named axes."""
    if isinstance(dim, Atom):
        return Atom(naming[dim.axis])
    if isinstance(dim, Prod):
        return Prod(tuple(renamed_dim(f, naming) for f in dim.factors))
    if isinstance(dim, Sum):
        return Sum(tuple(renamed_dim(t, naming) for t in dim.terms))
    return dim


def map_dims(value: Any, final: Callable[[Dim], Dim]) -> Any:
    """An argument of a call with other dimensions inside."""
    return mapped(
        lambda leaf: (
            replace(leaf, dim=final(leaf.dim))
            if isinstance(leaf, Extent | Pinned | Inverse)
            else leaf
        ),
        value,
    )
