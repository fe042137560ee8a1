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


class Weight(NamedTuple):
    """A weight that the scale of a norm goes into.

    Args:
        tensor: name of the weight.
        dim: along which it meets the norm's units.
        bias: what is added to its result; None where there is nothing, or nothing so simple.
    """

    tensor: str
    dim: int
    bias: str | None


@dataclass(frozen=True)
class Fold:
    """A scale that differs from unit to unit, and must go into the weights beside it.

    Over γ x + β, or (x − mean) γ / √(variance + ε) + β of a batch norm in evaluation mode.

    Args:
        scale: name of the parameter w, where γ = w + offset; None for γ = 1.
        offset: what the forward adds to w.
        shift: name of β; None where there is none.
        mean, variance: names of a batch norm's statistics; None for other norms.
        epsilon: what is added to the variance.
        into: whether γ goes into the weights that read γ x + β, or into those that make x.
        weights: these.
    """

    scale: str | None
    offset: float
    shift: str | None
    into: Literal["readers", "writers"]
    weights: tuple[Weight, ...]
    mean: str | None = None
    variance: str | None = None
    epsilon: float = 0.0


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
    folds: tuple[Fold, ...] = ()
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
