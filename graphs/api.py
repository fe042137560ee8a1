"""What users call: `trace` a module, then ask the network.

to_model(trace(model)) == model                  bit for bit, every parameter and buffer
from_pyg(to_pyg(net), like=net) == net           bit for bit

Everything below works on the value (`graphs.relate.structure.Structure`) and knows no `Network`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import nn

from graphs.build.inplace import prune_in_place
from graphs.build.rebuild import rebuild
from graphs.calls.modes import own_modes
from graphs.depth.branches import Block, blocks
from graphs.depth.drop import drop
from graphs.relate.renaming import named_like
from graphs.relate.structure import Structure
from graphs.relate.trace import structure_of
from graphs.symmetries.find import symmetries, symmetry
from graphs.symmetries.fold import fold_norms
from graphs.symmetries.scales import rescale
from graphs.symmetries.turn import rotate
from graphs.symmetries.untie import untied
from graphs.symmetries.values import Symmetry


@dataclass(frozen=True, repr=False)
class Network(Structure):
    """A network as axes and tensors; an immutable value.

    Args:
        axes: name → axis.
        tensors: state-dict name → tensor; tied ones once, under their first name.
        program: the traced forward.
        source: how to rebuild a module.
    """

    def to_model(self, into: nn.Module | None = None) -> nn.Module:
        """A module that computes this network.

        It is of the traced class wherever that class' own forward runs with these shapes and
        agrees with the traced program (which is tried); otherwise the traced program itself, with
        its shape constants rewritten (`graphs.program.module.ExportedModule`). State-dict names
        stay.

        Args:
            into: the module that was traced, to be turned into the pruned one instead of making
                another: see `graphs.build.inplace.prune_in_place`. It then shares this network's
                tensors. Until the pruned module has run it is left as it was, so after an error it
                is dense. The dense memory is free once no dense network is held any more.

        Raises:
            ValueError: this network does not fit into the class of `into`.
        """
        return rebuild(self).model if into is None else prune_in_place(into, self)

    def blocks(self) -> list[Block]:
        """The residual branches that may be dropped whole; see `graphs.depth.branches.blocks`."""
        return blocks(self)

    def drop(self, names: Iterable[str]) -> Self:
        """The network without some of its residual branches; see `graphs.depth.drop.drop`.

        Args:
            names: of blocks, as `blocks()` lists them.

        Raises:
            KeyError: no such block.
        """
        return drop(self, names)

    def symmetries(self) -> Mapping[str, Symmetry]:
        """Axis name → the largest group that acts on it; see `graphs.symmetries.find`."""
        return symmetries(self)

    def symmetry(self, axis: str) -> Symmetry:
        """The largest group that acts on one axis.

        Raises:
            KeyError: there is no such axis.
        """
        return symmetry(self, axis)

    def rotate(self, axis: str, matrix: torch.Tensor) -> Self:
        """The same function with the features of an axis turned by a matrix.

        Args:
            axis: whose group is one of matrices and needs no fold and no untying
                (`symmetry(axis).ready`).
            matrix: M (units, units), or (units of `per`, units, units); a feature vector x becomes
                M x. Orthogonal for `rotations`.

        Raises:
            ValueError: M is no member of the group of the axis, with the reason.
        """
        return rotate(self, axis, matrix)

    def rescale(self, axis: str, scales: torch.Tensor, gauge: int = 0) -> Self:
        """The same function with units scaled where they are made, and back where they are read.

        Args:
            axis: with at least one scale gauge (`graphs.symmetries.scales.gauges`).
            scales: one number for each unit: positive, or not zero where the gauge is linear.
            gauge: which of its gauges.

        Raises:
            ValueError: the axis has no such gauge, or a number is none of its scales.
        """
        return rescale(self, axis, scales, gauge)

    def fold_norms(self, axis: str) -> Self:
        """The same function with the norms along an axis folded into the weights around them.

        Their scales become one. See `graphs.symmetries.fold`.

        Args:
            axis: whose group is one of matrices.

        Raises:
            ValueError: it has none, or weights have to be untied first.
        """
        return fold_norms(self, axis)

    def untie(self, name: str) -> Network:
        """The same function with values of its own for a tied tensor.

        The network is traced again, and its axes keep their names. A configuration that asks for
        tied embeddings follows.

        Args:
            name: state-dict name that gets them; or of an axis, for all that its symmetry asks for.

        Raises:
            ValueError: it is not tied.
        """
        axis = isinstance(name, str) and name in self.axes
        names = [u.name for u in self.symmetry(name).unties] if axis else [name]
        return named_like(trace(*untied(self, names)), self) if names else self

    # PyG and networkx take seconds to import: they are asked for where a view is.

    def to_pyg(self, level: str = "neuron") -> Any:
        """The network as a `torch_geometric.data.HeteroData`; see `graphs.views.to_pyg`."""
        from graphs.views import to_pyg

        return to_pyg(self, level)

    def to_networkx(self, level: str = "layer") -> Any:
        """The network as a `networkx.MultiDiGraph`; see `graphs.views.to_networkx`."""
        from graphs.views import to_networkx

        return to_networkx(self, level)

    @staticmethod
    def from_pyg(data: Any, like: Network) -> Network:
        """The inverse of `to_pyg("neuron")`; see `graphs.views.from_pyg`."""
        from graphs.views import from_pyg

        return from_pyg(data, like)


@own_modes()
def trace(model: nn.Module, example_inputs: Any, *, every_size: bool = False) -> Network:
    """The network of a module as axes and tensors.

    One forward pass in evaluation mode is recorded; where the forward decides by values, the module
    is exported by `torch.export`. It is left as it was. What no operator rule understands is frozen
    with the reason, never guessed.

    Args:
        model: any module that `torch.export` accepts.
        example_inputs: tuple of positional arguments or dict of keyword arguments for its forward;
            a batch of one is enough.
        every_size: leave every size of the inputs open in the program that the model allows (token
            counts, image sizes), not only the number of examples.

    Raises:
        TraceError: the module does not run on the inputs, or cannot be exported.
    """
    found = structure_of(model, example_inputs, every_size=every_size)
    return Network(**{field.name: getattr(found, field.name) for field in fields(Structure)})
