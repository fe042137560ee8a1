"""Symmetries as values: which group acts on an axis, on what, and what must be done before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

GROUPS = ("identity", "permutations", "scales", "rotations", "invertible")
GroupName = Literal["identity", "permutations", "scales", "rotations", "invertible"]


class Slot(NamedTuple):
    """A dimension of a tensor along which its entries turn with an axis.

    Args:
        tensor: name of the tensor.
        dim: its dimension.
        part: of the parts of that dimension that run along the axis (a fused query/key/value
            projection has several), which one.
    """

    tensor: str
    dim: int
    part: int = 0


class Reader(NamedTuple):
    """A weight that reads what a norm makes.

    Args:
        tensor: name of the weight.
        dim: along which it reads.
        bias: what is added to its result, for the norm's shift; None where there is none.
    """

    tensor: str
    dim: int
    bias: str | None


@dataclass(frozen=True)
class Fold:
    """A norm whose scale differs from unit to unit, and must go into the weights that read it.

    Args:
        scale: name of the parameter w, where the scale is γ = w + offset.
        offset: what the forward adds to w.
        shift: name of the norm's bias β; None where it has none.
        readers: the weights that read γ x̂ + β.
    """

    scale: str
    offset: float
    shift: str | None
    readers: tuple[Reader, ...]


@dataclass(frozen=True)
class BatchFold:
    """A batch norm in evaluation mode whose scale goes into the weights that make its input.

    Args:
        scale, shift, mean, variance: names of its tensors; None for a scale or shift it lacks.
        epsilon: added to the variance.
        writers: (weight or bias, dimension) of what makes its input.
    """

    scale: str | None
    shift: str | None
    mean: str
    variance: str
    epsilon: float
    writers: tuple[Slot, ...]


@dataclass(frozen=True)
class Untie:
    """A tied tensor that must get values of its own, because only one of its uses is to change.

    Args:
        name: state-dict name that gets them.
        tensor: name of the tensor that it shares now.
        parameters: how many parameters the network then has more.
    """

    name: str
    tensor: str
    parameters: int


@dataclass(frozen=True)
class Symmetry:
    """The largest group that acts on an axis without changing the function.

    A member M of `rotations` is orthogonal (and keeps the vector of ones, M·1 = 1, where
    `keeps_ones`), one of `invertible` has an inverse. Tensors follow as W → M W along the slots of
    `writers` and as W → M⁻ᵀ W along those of `readers`, which for rotations is the same. Every
    larger group also holds the permutations; `scales` are those of `graphs.symmetries.scales`.

    Args:
        axis: name of the axis.
        group: "identity", "permutations", "scales", "rotations" or "invertible".
        per: axis whose every unit has a matrix of its own (key/value heads); None for one matrix.
        keeps_ones: members keep the vector of ones: rotations behind a LayerNorm.
        writers: slots that turn with the axis: what produces it.
        readers: slots that turn against it: what reads it.
        folds: norms that have to be folded first (`Network.fold_norms`).
        unties: ties that have to be undone before (`Network.untie`).
        blocked: why the group is not one of matrices, in plain words; "" where it is one.
    """

    axis: str
    group: GroupName
    per: str | None = None
    keeps_ones: bool = False
    writers: tuple[Slot, ...] = ()
    readers: tuple[Slot, ...] = ()
    folds: tuple[Fold | BatchFold, ...] = ()
    unties: tuple[Untie, ...] = ()
    blocked: str = ""

    @property
    def turns(self) -> bool:
        """Whether the group is one of matrices: rotations, or all that are invertible."""
        return self.group in ("rotations", "invertible")

    @property
    def ready(self) -> bool:
        """Whether a member can be applied as things are, without a fold or an untying."""
        return self.turns and not self.folds and not self.unties
