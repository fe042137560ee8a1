"""Root-mean-square norms that stay exact when units go: where their scale is and how it follows.

Over d' of d units, mean x² is d / d' times what it was when the missing units are zero, so

    γ x / √(mean x² + ε)   becomes   γ √(d / d') x / √(mean' x² + ε d / d'),

the same numbers. γ is a parameter, possibly stored with an offset (1 + w); ε is a number in the
forward. A norm without such a scale cannot be repaired: its axis is `norm-changed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Axis, Dim, all_atoms, atoms, size
from graphs.rules.context import Facts, Inverse
from graphs.rules.registry import known_of, operator_name

# How a root-mean-square norm is spelled: what may stand between the mean and what it divides.
_ROOTS = ("add", "rsqrt", "sqrt", "pow", "reciprocal", "clamp_min", "clamp", "expand")
_JOINS = ("mul", "div")
_REACH = 24


@dataclass(frozen=True)
class Rescale:
    """A scale that follows the number of units of a root-mean-square norm.

    Args:
        tensor: name of the parameter w, where the scale is γ = w + offset.
        dim: what the mean square is taken over.
        offset: what the forward adds to w.
    """

    tensor: str
    dim: Dim
    offset: float = 0.0

    def apply(
        self, value: torch.Tensor, before: Mapping[str, Axis], after: Mapping[str, Axis]
    ) -> torch.Tensor:
        """W' with w' + offset = (w + offset) √(d / d'), in the dtype of `value`."""
        d, left = size(self.dim, before), size(self.dim, after)
        if d == left:
            return value
        exact = value.to(torch.float64)
        scaled = (exact + self.offset) * math.sqrt(d / left) - self.offset
        return scaled.to(value.dtype)


def root_mean_square_scales(
    facts: Facts, resolve: Callable[[Dim], Dim], tensor_dims: Mapping[str, tuple[Dim, ...]]
) -> list[Rescale]:
    """The scale of every root-mean-square norm; states the class of its axes on the way.

    Args:
        facts: what the rules stated; classes and arguments of the ε are added.
        resolve: brings a dimension into normal form.
        tensor_dims: tensor name → dimensions.
    """
    if not facts.mean_squares:
        return []
    carried = {name: all_atoms(tuple(map(resolve, dims))) for name, dims in tensor_dims.items()}
    found: dict[str, Rescale] = {}
    for node, dim in facts.mean_squares:
        dim = resolve(dim)
        units = frozenset(atoms(dim))
        if not units:
            continue
        scale = (
            _fused(node) if "rms_norm" in str(node.target) else scale_after(node, units, carried)
        )
        # One parameter that two norms of different widths share cannot follow both.
        rescale = scale and Rescale(scale[0], dim, scale[1])
        if rescale is None or found.setdefault(rescale.tensor, rescale) != rescale:
            facts.exactness.append((dim, "norm-changed"))
            continue
        facts.exactness.append((dim, "norm-rescaled"))
        place, where = scale[2]
        if place is not None:
            value = place.args[where]
            facts.arguments.setdefault(place.name, {})[where] = Inverse(dim, value)
    return list(found.values())


def _fused(node: fx.Node) -> Any:
    """The scale of one `rms_norm` call."""
    weight = node.args[2] if len(node.args) > 2 else None
    if not isinstance(weight, fx.Node):
        return None
    found = parameter_of(weight)
    stated = len(node.args) > 3 and isinstance(node.args[3], float)
    return found and (*found, (node if stated else None, 3))


def scale_after(node: fx.Node, dim_atoms: frozenset[str], dims: Mapping[str, Any]) -> Any:
    """(parameter name, offset, place of the ε) of the norm whose mean square is `node`.

    Args:
        node: the mean over squares.
        dim_atoms: the axes it is taken over.
        dims: node name → axes of its result, for parameters.

    Returns:
        None when the norm is spelled in another way, or has no scale.
    """
    epsilon: fx.Node | None = None
    here, joined = node, False
    for _ in range(_REACH):
        if len(here.users) != 1:
            return None
        here, before = next(iter(here.users)), here
        name = operator_name(here.target)
        if _copies(here) or (joined and name in ("view", "reshape", "flatten")):
            continue
        if not joined and name in _ROOTS:
            if name == "add":
                if not isinstance(here.args[1], float | int):
                    return None
                epsilon = here
            continue
        if name not in _JOINS:
            return None
        other = here.args[1] if here.args[0] is before else here.args[0]
        if not isinstance(other, fx.Node):
            continue
        found = parameter_of(other)
        if found is not None and dim_atoms <= dims.get(found[0], frozenset()):
            return (*found, (epsilon, 1)) if joined and name == "mul" else None
        if joined:
            return None
        joined = True
    return None


def _copies(node: fx.Node) -> bool:
    """Whether a value is its operand, in evaluation mode."""
    known = known_of(node.target)
    return known.entries == "same" or operator_name(node.target) == "dropout"


def parameter_of(node: fx.Node) -> tuple[str, float] | None:
    """(name, offset) of a parameter that reaches `node` through casts and added numbers only."""
    offset = 0.0
    while node.op == "call_function":
        name = operator_name(node.target)
        numbers = [a for a in node.args[:2] if isinstance(a, float | int)]
        nodes = [a for a in node.args[:2] if isinstance(a, fx.Node)]
        if name == "add" and len(numbers) == 1 and not node.kwargs:
            offset += float(numbers[0])
        elif name not in ("view", "unsqueeze") and not _copies(node):
            return None
        if len(nodes) != 1:
            return None
        node = nodes[0]
    return (str(node.target), offset) if node.op == "get_attr" else None
