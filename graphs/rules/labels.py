"""Contractions as equations over labels: which dimensions are summed over in pairs, which pass.

    linear   a b … i, o i (, o)  →  a b … o
    matmul   … a i, … i b        →  … a b

A label that two factors have and the result has not is summed over. Convolutions sum over channels;
what their windows do to positions has labels of its own, which pass nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

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


def _rank(node: fx.Node) -> int:
    return len(node.meta["val"].shape)


def _bias(node: Any, labels: str) -> tuple[fx.Node, str] | None:
    return (node, labels[len(labels) - _rank(node) :]) if isinstance(node, fx.Node) else None


def _given(node: fx.Node) -> dict[str, Any]:
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return dict(zip(names, node.args, strict=False)) | node.kwargs


def linear(node: fx.Node) -> Contraction:
    """Y = x Wᵀ + b."""
    given = _given(node)
    x, weight = given["input"], given["weight"]
    lead = _LETTERS[: _rank(x) - 1]
    made = "o" if _rank(weight) == 2 else ""
    factors = ((x, f"{lead}i"), (weight, f"{made}i"))
    return Contraction(factors, lead + made, _bias(given.get("bias"), lead + made))


def embedding(node: fx.Node) -> Contraction:
    """Rows of W by index: those of the vocabulary are picked."""
    weight, index = node.args[:2]
    return Contraction(((weight, "vo"),), _LETTERS[: _rank(index)] + "o")  # type: ignore[arg-type]


def convolution(node: fx.Node) -> Contraction:
    """Channels are summed over, positions are told apart."""
    given = _given(node)
    x, weight = given["input"], given["weight"]
    spatial = _rank(weight) - 2
    sides = "io" if "transpose" in str(node.target) else "oi"
    lead = "n" * (_rank(x) - spatial - 1)
    factors = ((x, f"{lead}i{'xyz'[:spatial]}"), (weight, sides + "klm"[:spatial]))
    bias = given.get("bias")
    addend = (bias, "o") if isinstance(bias, fx.Node) else None
    return Contraction(factors, f"{lead}o{'XYZ'[:spatial]}", addend)


def matmul(node: fx.Node) -> Contraction:
    """Product of the last two operands, with broadcast batch dimensions; a bias goes before."""
    *before, a, b = [n for n in node.args if isinstance(n, fx.Node)]
    left, right = _rank(a), _rank(b)
    batch = _LETTERS[: max(left, right, 2) - 2]
    rows = "x" if left > 1 else ""
    columns = "y" if right > 1 else ""
    first = batch[len(batch) - max(left - 2, 0) :] + rows + "i"
    second = batch[len(batch) - max(right - 2, 0) :] + "i" + columns
    made = batch + rows + columns
    return Contraction(((a, first), (b, second)), made, _bias(before[0], made) if before else None)


def einsum(node: fx.Node) -> Contraction | None:
    """As written; None without an explicit result."""
    equation, operands = node.args[:2]
    inputs, arrow, result = str(equation).replace(" ", "").partition("->")
    if "." in inputs or not arrow:
        return None
    return Contraction(tuple(zip(operands, inputs.split(","), strict=True)), result)  # type: ignore[arg-type]


def bilinear(node: fx.Node) -> Contraction:
    """Y_k = aᵀ W_k b + bias_k."""
    a, b, weight, *rest = node.args
    lead = _LETTERS[: _rank(a) - 1]  # type: ignore[arg-type]
    factors = ((a, f"{lead}i"), (b, f"{lead}j"), (weight, "oij"))
    return Contraction(factors, f"{lead}o", _bias(rest[0] if rest else None, f"{lead}o"))  # type: ignore[arg-type]


def grouped(node: fx.Node) -> Contraction | None:
    """Tokens times the matrix of their expert; None with a bias for each expert."""
    x, weight = node.args[:2]
    others = [n for n in node.all_input_nodes if n is not x and n is not weight]
    if len(others) > 1:
        return None
    return Contraction(((x, "ti"), (weight, "eio")), "to")  # type: ignore[arg-type]
