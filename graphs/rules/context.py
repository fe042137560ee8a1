"""What a rule sees of one call, the values it is given, and all that it may state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from graphs.axes.dims import EXACTNESS, Dim, Fixed
from graphs.axes.unify import Unifier
from graphs.places import place_of_stack

Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Value:
    """An abstract tensor.

    Args:
        dims: its dimensions.
        shape: their sizes as traced.
        tensor: the parameter or buffer whose entries it holds, perhaps transposed or cast.
        node: the node that makes it.
        places: for each dimension, the dimension of `tensor` it is; None where it is none of them.
        still: whether it depends on no input of the model.
        numbers: the dimension whose units its entries number (the places that top-k returns).
    """

    dims: Dims
    shape: tuple[int, ...]
    tensor: str | None = None
    node: fx.Node | None = None
    places: tuple[int | None, ...] = ()
    still: bool = False
    numbers: Dim | None = None


@dataclass(frozen=True)
class Extent:
    """An integer argument that is the number of positions of a dimension.

    A size that is computed at run time (a batch times units) shrinks in proportion.
    `offset` is added to a stated one (the number of the last unit: -1).
    """

    dim: Dim
    offset: int = 0


@dataclass(frozen=True)
class Pinned:
    """An argument to state explicitly once `dim` shrinks: its default depends on the size."""

    dim: Dim
    value: Any


@dataclass(frozen=True)
class Inverse:
    """A number of the call in inverse proportion to the size of `dim`: `value` as traced."""

    dim: Dim
    value: float


@dataclass(frozen=True)
class Cost:
    """Multiply–accumulates of one node: the product of the sizes of `dims`."""

    node: str
    module: str
    dims: Dims


@dataclass
class Facts:
    """What rules state besides dimensions, for the whole program.

    Attributes:
        arguments: node name → {argument position or keyword: value with `Extent`, `Pinned` or
            `Inverse` inside}.
        costs: multiply–accumulates, node by node.
        contracted: (node name, dimension) pairs that an operator sums over.
        exactness: (dimension, class) pairs stated by norms and reductions.
        mean_squares: (node, dimension) pairs: a mean of squares, or a whole root-mean-square norm.
        minimum: (dimension, number of positions it must keep) pairs (top-k).
        roles: tensor name → role, the first one stated.
        consumed, produced: (tensor name, dimension index) seen on either side of a contraction.
    """

    arguments: dict[str, dict[int | str, Any]] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    exactness: list[tuple[Dim, str]] = field(default_factory=list)
    mean_squares: list[tuple[fx.Node, Dim]] = field(default_factory=list)
    minimum: list[tuple[Dim, int]] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    consumed: set[tuple[str, int]] = field(default_factory=set)
    produced: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Context:
    """What a rule sees of the node it explains."""

    node: fx.Node
    solver: Unifier
    facts: Facts
    module: str
    shapes: tuple[tuple[int, ...], ...]
    training: bool = False
    """Whether the forward runs in training mode."""
    numbers: tuple[int, Dim] | None = None
    """Set by a rule: which of the results numbers the units of a dimension, and of which."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result."""
        return self.shapes[0]

    @property
    def where(self) -> str:
        """The operator and its place in the user's code, for reasons and errors."""
        return describe(self.node)

    def unify(self, a: Dim, b: Dim) -> Dim:
        """State that two dimensions are the same."""
        return self.solver.unify(a, b)

    def freeze(self, dims: Dim | Sequence[Dim], why: str) -> None:
        """Leave all axes of `dims` alone."""
        for dim in dims if isinstance(dims, Sequence) else (dims,):
            if not isinstance(dim, Fixed):
                self.solver.freeze(dim, f"{why} ({self.where})")

    def extent(self, argument: int | str, value: Any) -> None:
        """Name an argument of the call that follows from dimensions (`Extent`s inside)."""
        self.facts.arguments.setdefault(self.node.name, {})[argument] = value

    def cost(self, *dims: Dim) -> None:
        """State that the node multiplies and accumulates once per position of all `dims`."""
        self.facts.costs.append(Cost(self.node.name, self.module, dims))

    def exactness(self, dim: Dim, kind: str) -> None:
        """State a class of exactness for the axes of `dim`."""
        assert kind in EXACTNESS
        self.facts.exactness.append((dim, kind))

    def role(self, value: Value | None, role: str, consumed: Sequence[int] = ()) -> None:
        """State the role of a parameter, and which of its dimensions an input runs along."""
        if value is None or value.tensor is None:
            return
        self.facts.roles.setdefault(value.tensor, role)
        for i, place in enumerate(value.places):
            if place is not None:
                side = self.facts.consumed if i in consumed else self.facts.produced
                side.add((value.tensor, place))

    def fixed(self, shape: Sequence[int], reason: str) -> Dims:
        """Dimensions without units."""
        return tuple(Fixed(n, reason) for n in shape)

    def opaque(self, values: Sequence[Value], why: str) -> None:
        """Freeze all axes of the operands."""
        for value in values:
            self.freeze(value.dims, why)


def describe(node: fx.Node) -> str:
    """`aten.topk at model.py:12`, for reasons that name a place in the user's code."""
    name = str(node.target) if node.op == "call_function" else node.name
    place = place_of_stack(node.meta.get("stack_trace"))
    return name if place is None else f"{name} at {place}"
