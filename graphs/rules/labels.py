"""Contractions as equations over labels: which dimensions are summed over in pairs, which pass.

    linear   a b … i, o i (, o)  →  a b … o
    matmul   … a i, … i b        →  … a b

A label that two factors have and the result has not is summed over. Convolutions sum over channels;
what their windows do to positions has labels of its own, which pass nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

Rank = Callable[[fx.Node], int]
"""Number of dimensions of a value."""

_LETTERS = "abcdefghlmnpqrstuvw"


@dataclass(frozen=True)
class Contraction:
    """What a call multiplies and adds.

    Args:
        factors: (node, one label for each of its dimensions).
        result: labels of the result.
        addend: what is added, with its labels: a bias.
    """

    factors: tuple[tuple[fx.Node, str], ...]
    result: str
    addend: tuple[fx.Node, str] | None = None


def _bias(node: Any, labels: str, rank: Rank) -> tuple[fx.Node, str] | None:
    return (node, labels[len(labels) - rank(node) :]) if isinstance(node, fx.Node) else None


def named_arguments(node: fx.Node) -> dict[str, Any]:
    """Name → argument of a call, as its schema names them."""
    names = [argument.name for argument in node.target._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | node.kwargs


def linear(node: fx.Node, rank: Rank) -> Contraction:
    """Y = x Wᵀ + b."""
    given = named_arguments(node)
    x, weight = given["input"], given["weight"]
    lead = _LETTERS[: rank(x) - 1]
    made = "o" if rank(weight) == 2 else ""
    factors = ((x, f"{lead}i"), (weight, f"{made}i"))
    return Contraction(factors, lead + made, _bias(given.get("bias"), lead + made, rank))


def embedding(node: fx.Node, rank: Rank) -> Contraction:
    """Rows of W by index: those of the vocabulary are picked."""
    weight, index = node.args[:2]
    return Contraction(((weight, "vo"),), _LETTERS[: rank(index)] + "o")


def convolution(node: fx.Node, rank: Rank) -> Contraction:
    """Channels are summed over, positions are told apart."""
    given = named_arguments(node)
    x, weight = given["input"], given["weight"]
    spatial = rank(weight) - 2
    sides = "io" if "transpose" in str(node.target) else "oi"
    lead = "n" * (rank(x) - spatial - 1)
    factors = ((x, f"{lead}i{'xyz'[:spatial]}"), (weight, sides + "klm"[:spatial]))
    bias = given.get("bias")
    addend = (bias, "o") if isinstance(bias, fx.Node) else None
    return Contraction(factors, f"{lead}o{'XYZ'[:spatial]}", addend)


def matmul(node: fx.Node, rank: Rank) -> Contraction:
    """Product of the last two operands, with broadcast batch dimensions; a bias goes before."""
    *before, a, b = [n for n in node.args if isinstance(n, fx.Node)]
    left, right = rank(a), rank(b)
    batch = _LETTERS[: max(left, right, 2) - 2]
    rows = "x" if left > 1 else ""
    columns = "y" if right > 1 else ""
    first = batch[len(batch) - max(left - 2, 0) :] + rows + "i"
    second = batch[len(batch) - max(right - 2, 0) :] + "i" + columns
    made = batch + rows + columns
    return Contraction(
        ((a, first), (b, second)), made, _bias(before[0], made, rank) if before else None
    )


def einsum(node: fx.Node, rank: Rank) -> Contraction | None:
    """As written; None without an explicit result."""
    equation, operands = node.args[:2]
    inputs, arrow, result = str(equation).replace(" ", "").partition("->")
    if "." in inputs or not arrow:
        return None
    return Contraction(tuple(zip(operands, inputs.split(","), strict=True)), result)


def bilinear(node: fx.Node, rank: Rank) -> Contraction:
    """Y_k = aᵀ W_k b + bias_k."""
    a, b, weight, *rest = node.args
    lead = _LETTERS[: rank(a) - 1]
    factors = ((a, f"{lead}i"), (b, f"{lead}j"), (weight, "oij"))
    return Contraction(factors, f"{lead}o", _bias(rest[0] if rest else None, f"{lead}o", rank))


def grouped(node: fx.Node, rank: Rank) -> Contraction | None:
    """Tokens times the matrix of their expert; None with a bias for each expert."""
    x, weight = node.args[:2]
    others = [n for n in node.all_input_nodes if n is not x and n is not weight]
    if len(others) > 1:
        return None
    return Contraction(((x, "ti"), (weight, "eio")), "to")
