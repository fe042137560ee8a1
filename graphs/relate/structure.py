"""The central value: a network as axes and tensors, with what can be said and done by it alone.

permute(axis, order) computes the same function
remove(axis, dead units) computes the same function, up to the axis' class of exactness

`graphs.api.Network` adds what needs more than the value: modules, views, blocks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self, overload

import torch
from torch import nn

from graphs.axes.dims import Axis, Dim, atoms, kept_positions, size
from graphs.axes.extents import Product
from graphs.errors import FrozenAxisError
from graphs.program.program import Program
from graphs.tools.arguments import said, whole_numbers


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer and what its dimensions run along.

    Args:
        value: the tensor, in its own dtype and device.
        dims: one dimension expression for each dimension of `value`.
        role: `weight` (contracted), `bias`, `scale` (multiplied), `running_mean`, `running_var`,
            `embedding` (looked up) or `constant`.
        produces: for each dimension, whether it lies on the producing side (the rows of a weight, a
            bias, a scale); False for the side an input runs along.
        frozen: why its entries are left alone, by masks and factors too; None where they are not.
    """

    value: torch.Tensor
    dims: tuple[Dim, ...]
    role: str
    produces: tuple[bool, ...]
    frozen: str | None = None

    @property
    def reading(self) -> tuple[int, ...]:
        """Dimensions on the reading side."""
        return tuple(i for i, produced in enumerate(self.produces) if not produced)

    @property
    def making(self) -> tuple[int, ...]:
        """Dimensions on the producing side, kernel taps among them."""
        return tuple(i for i, produced in enumerate(self.produces) if produced)

    def reads(self, axis: str) -> tuple[int, ...]:
        """Dimensions along which it reads units of an axis."""
        return tuple(i for i in self.reading if axis in atoms(self.dims[i]))

    def makes(self, axis: str) -> tuple[int, ...]:
        """Dimensions along which it produces units of an axis."""
        return tuple(i for i in self.making if axis in atoms(self.dims[i]))

    @property
    def axes_read(self) -> tuple[str, ...]:
        """Axes whose units it reads, in the order of its dimensions."""
        return tuple(dict.fromkeys(a for i in self.reading for a in atoms(self.dims[i])))

    @property
    def axes_made(self) -> tuple[str, ...]:
        """Axes whose units it produces, in the order of its dimensions."""
        return tuple(dict.fromkeys(a for i in self.making for a in atoms(self.dims[i])))

    @property
    def input_dim(self) -> int | None:
        """The one dimension of a matrix or kernel that reads units; None for none or several."""
        carrying = [i for i in self.reading if atoms(self.dims[i])]
        return carrying[0] if len(carrying) == 1 and len(self.dims) > 1 else None

    @property
    def making_units(self) -> tuple[int, ...]:
        """Dimensions along which it produces units: no kernel taps."""
        return tuple(i for i in self.making if atoms(self.dims[i]))

    @property
    def output_dim(self) -> int:
        """The first dimension that produces; the first of all where none does."""
        return self.making[0] if self.making else 0


@dataclass(frozen=True)
class Group:
    """What is cut together when units of one axis are removed.

    Args:
        axis: the axis.
        tensors: (tensor name, dimension index) of every slice that goes.
    """

    axis: Axis
    tensors: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        a = self.axis
        places = ", ".join(f"{name}[{i}]" for name, i in self.tensors)
        state = f"frozen: {a.frozen}" if a.frozen else a.exactness
        return f"{a.name}: {a.size} × {a.kind} ({state}) over {places}"


@dataclass(frozen=True)
class Source:
    """Where a network comes from: what is needed to rebuild a module.

    Args:
        model: a copy of the traced module's structure; its tensors are never read.
        example: the traced inputs, as (args, kwargs).
        aliases: state-dict name → canonical tensor name, for tied tensors.
        parameters: canonical name → requires_grad.
        buffers: canonical name → persistent.
        axes: the axes as traced, before anything was removed.
        moved: tensor name → its name as traced, of layers that moved up when others left.
        trains_alike: whether the forward in training mode is known to make the same calls.
    """

    model: nn.Module
    example: tuple[tuple[Any, ...], dict[str, Any]]
    aliases: Mapping[str, str]
    parameters: Mapping[str, bool]
    buffers: Mapping[str, bool]
    axes: Mapping[str, Axis] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    trains_alike: bool = True


@dataclass(frozen=True, repr=False)
class Structure:
    """A network as axes and tensors; an immutable value.

    Args:
        axes: name → axis.
        tensors: state-dict name → tensor; tied ones once, under their first name.
        program: the traced forward.
        source: how to rebuild a module.
    """

    axes: Mapping[str, Axis]
    tensors: Mapping[str, Tensor]
    program: Program
    source: Source

    def __repr__(self) -> str:
        free = sum(a.frozen is None for a in self.axes.values())
        n = sum(t.value.numel() for t in self.tensors.values())
        return (
            f"{type(self).__name__}({len(self.tensors)} tensors, {n:,} numbers, "
            f"{len(self.axes)} axes, {free} of them prunable)"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same network with values of its own; what never changes is shared."""
        values = {n: copy.deepcopy(t.value.detach(), memo) for n, t in self.tensors.items()}
        return self.replace(values)

    @cached_property
    def extents(self) -> dict[str, Product]:
        """Tensor name → number of its entries, as a function of the axis sizes."""
        return {name: Product.of(tensor.dims) for name, tensor in self.tensors.items()}

    def groups(self) -> list[Group]:
        """Every axis with all the tensor dimensions it runs through."""
        places: dict[str, list[tuple[str, int]]] = {name: [] for name in self.axes}
        for name, tensor in self.tensors.items():
            for i, dim in enumerate(tensor.dims):
                for axis in atoms(dim):
                    places[axis].append((name, i))
        return [Group(self.axes[name], tuple(where)) for name, where in places.items()]

    def replace(self, values: Mapping[str, torch.Tensor]) -> Self:
        """The same structure with other values.

        Args:
            values: tensor name → value of the same shape; names left out keep theirs.

        Raises:
            KeyError: a name is not a tensor of this network.
            ValueError: a shape differs, or a value is no tensor.
        """
        tensors = dict(self.tensors)
        if not isinstance(values, Mapping):
            raise ValueError(f"expected a mapping of tensor names to values (got {said(values)})")
        for name, value in values.items():
            if name not in tensors:
                raise KeyError(f"{name!r} is not a tensor of this network")
            if not isinstance(value, torch.Tensor):
                raise ValueError(f"{name}: expected a tensor (got {said(value)})")
            expected = tuple(tensors[name].value.shape)
            if tuple(value.shape) != expected:
                raise ValueError(f"{name}: expected shape {expected} (got {tuple(value.shape)})")
            tensors[name] = replace(tensors[name], value=value)
        return replace(self, tensors=MappingProxyType(tensors))

    def freeze(self, names: Iterable[str], why: str, *, shapes: bool = True) -> Self:
        """The same network with the entries of some tensors left alone.

        Args:
            names: of tensors.
            why: a few words, for people.
            shapes: whether the axes they run along are left alone too.

        Raises:
            KeyError: a name is not a tensor of this network.
        """
        tensors, axes = dict(self.tensors), dict(self.axes)
        for name in names:
            if name not in tensors:
                raise KeyError(f"{name!r} is not a tensor of this network")
            tensors[name] = replace(tensors[name], frozen=why)
            for axis in {axis for dim in tensors[name].dims for axis in atoms(dim)}:
                if shapes and axes[axis].frozen is None:
                    axes[axis] = replace(axes[axis], frozen=why)
        return replace(self, tensors=MappingProxyType(tensors), axes=MappingProxyType(axes))

    def permute(self, axis: str, order: Sequence[int] | torch.Tensor) -> Self:
        """The same function with the units of one axis reordered.

        Args:
            axis: name of an axis that is not frozen.
            order: permutation of its units; unit `order[i]` comes to place i.

        Raises:
            FrozenAxisError: the axis must be left alone.
            ValueError: `order` is not a permutation.
        """
        n = self._free(axis).size
        index = whole_numbers(order, f"order of {axis}")
        if index.shape != (n,) or not torch.equal(index.sort().values, torch.arange(n)):
            raise ValueError(f"{axis}: order must be a permutation of {n} units (got {order})")
        return self._keep({axis: index})

    @overload
    def remove(self, axis: str, indices: Sequence[int] | torch.Tensor) -> Self: ...
    @overload
    def remove(self, axis: Mapping[str, Sequence[int] | torch.Tensor]) -> Self: ...
    def remove(self, axis: Any, indices: Any = None) -> Self:
        """A smaller network: every tensor that runs along an axis is sliced.

        It computes what the network computes with those units set to zero, up to the axis' class of
        exactness; scales of root-mean-square norms are adjusted for that
        (`graphs.program.rescale`).

        Args:
            axis: an axis name, or a mapping of axis names to the indices to remove.
            indices: units to remove, when `axis` is a name.

        Raises:
            FrozenAxisError: an axis must be left alone.
            ValueError: indices out of range, repeated, covering a whole axis, or no whole numbers.
        """
        removed = axis if isinstance(axis, Mapping) else {self.axis(axis).name: indices}
        kept = {}
        for name, gone in removed.items():
            n = self._free(name).size
            index = whole_numbers(gone, f"units to remove from {name}").reshape(-1)
            if index.numel() == 0:
                continue
            stays = torch.ones(n, dtype=torch.bool)
            if int(index.min()) >= 0 and int(index.max()) < n:
                stays[index] = False
            kept[name] = stays.nonzero().flatten()
            left, least = n - index.numel(), self.axes[name].minimum
            if kept[name].numel() != left:
                raise ValueError(f"{name}: indices must be distinct and below {n} (got {gone})")
            if left < least:
                raise ValueError(f"{name}: {left} units would stay; keep at least {least}")
        return self._keep(kept) if kept else self

    def axis(self, name: str) -> Axis:
        """The axis of a name.

        Raises:
            KeyError: there is no such axis.
        """
        if not isinstance(name, str) or name not in self.axes:
            raise KeyError(f"no axis {name!r}; `groups()` lists them")
        return self.axes[name]

    def _free(self, name: str) -> Axis:
        axis = self.axis(name)
        if axis.frozen:
            raise FrozenAxisError(f"axis {name!r} is left alone: {axis.frozen}")
        return axis

    def _keep(self, kept: Mapping[str, torch.Tensor]) -> Self:
        tensors = {}
        for name, tensor in self.tensors.items():
            value = tensor.value
            for i, dim in enumerate(tensor.dims):
                index = kept_positions(dim, kept, self.axes)
                if index is not None:
                    value = value.index_select(i, index.to(value.device))
            if value is not tensor.value:
                tensor = replace(tensor, value=value)
            tensors[name] = tensor
        axes = {
            name: replace(a, size=kept[name].numel()) if name in kept else a
            for name, a in self.axes.items()
        }
        for scale in self.program.rescales:
            tensor = tensors[scale.tensor]
            value = scale.apply(tensor.value, self.axes, axes)
            tensors[scale.tensor] = replace(tensor, value=value)
        return replace(self, axes=MappingProxyType(axes), tensors=MappingProxyType(tensors))

    def shape(self, dims: tuple[Dim, ...]) -> tuple[int, ...]:
        """Sizes of dimensions under this network's axes."""
        return tuple(size(d, self.axes) for d in dims)
