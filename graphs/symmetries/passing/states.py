"""What one value of a program does when the units of an axis are turned by a matrix M."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import fx

from graphs.axes.dims import Atom, Dim, Fixed, Prod, Sum
from graphs.symmetries.values import Slot


@dataclass(frozen=True)
class Pending:
    """γ x + β with x turned and γ not yet folded away: only weights may read that.

    Args:
        scale: name of the parameter w; None for γ = 1.
        offset: γ = w + offset.
        shift: name of β, if any.
        place: the operator that multiplies by γ, for reasons.
        mean, variance, epsilon: of a batch norm.
    """

    scale: str | None
    offset: float
    shift: str | None
    place: str = field(compare=False)
    mean: str | None = None
    variance: str | None = None
    epsilon: float = 0.0


@dataclass(frozen=True)
class Turned:
    """A value that is multiplied by M (or M⁻ᵀ) along the axis.

    Args:
        places: dimension → for each part of it that runs along the axis, its side (`Parity`).
        slots: of the parameters that it is made of alone; empty where data is in it.
        needs: "ones", "orthogonal": what M must be for the operators on the way, where that is not
            yet settled, because a parameter may turn out to be no vector of units but a scale.
        pending: a norm's scale that waits to be folded.
        direct: whether nothing multiplies γ x + β before it is read, so that β may go into biases.
        makers: slots of the weights that made it, as long as nothing else is in it.
        broken: why a value of parameters alone cannot be turned.
    """

    places: Mapping[int, tuple[int, ...]]
    slots: frozenset[Slot] = frozenset()
    needs: frozenset[str] = frozenset()
    pending: Pending | None = None
    direct: bool = True
    makers: frozenset[Slot] = frozenset()
    broken: str = ""


@dataclass(frozen=True)
class Squared:
    """The squares of a turned value.

    Args:
        dims: along which it runs along the axis.
    """

    dims: frozenset[int]


@dataclass(frozen=True)
class Same:
    """A value that is the same for all units, `zero` everywhere or not."""

    zero: bool = False


State = Turned | Squared | Same


@dataclass
class Use:
    """One use of a parameter as something that turns.

    Args:
        node: the call.
        fold: the scale that goes into it, if any.
        into: whether it then reads or makes what is scaled.
        bias: name of what is added to its result.
    """

    node: fx.Node
    fold: Pending | None = None
    into: Literal["readers", "writers"] = "readers"
    bias: str | None = None


@dataclass
class Found:
    """What a walk along one axis collects.

    Attributes:
        blocked: why the axis cannot be turned, in order.
        needs: "ones", "orthogonal".
        uses: slot → how it is used.
        sides: slot → its side.
        scales: parameters that must not turn: those of norms.
    """

    blocked: list[str] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)
    uses: dict[Slot, list[Use]] = field(default_factory=dict)
    sides: dict[Slot, int] = field(default_factory=dict)
    scales: set[str] = field(default_factory=set)


def parts(dim: Dim, axis: str) -> int:
    """Number of parts of a dimension that run along an axis (a concatenation may have several)."""
    if isinstance(dim, Atom):
        return int(dim.axis == axis)
    if isinstance(dim, Fixed):
        return 0
    if isinstance(dim, Prod):
        return max((parts(f, axis) for f in dim.factors), default=0)
    assert isinstance(dim, Sum)
    return sum(parts(t, axis) for t in dim.terms)
