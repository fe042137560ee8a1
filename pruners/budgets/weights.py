"""Which tensors a budget may divide, and why others are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruners.solvers.matrix import matrix_shape, taps_of
from pruners.solvers.zeros import MaskPattern

if TYPE_CHECKING:
    from graphs import Network

MATRICES = ("weight", "embedding")
"""Roles of tensors that people call weights."""


def maskable(net: Network, pattern: str | MaskPattern = "unstructured") -> dict[str, str | None]:
    """Weight matrix, kernel or embedding → why masks leave it alone, or None where they take it.

    Args:
        net: the network.
        pattern: of the masks.

    Raises:
        ValueError: an unknown pattern.
    """
    asked = MaskPattern.parse(pattern)
    return {
        name: _reason(net, name, asked)
        for name, tensor in net.tensors.items()
        if tensor.role in MATRICES and tensor.value.ndim >= 2 and tensor.value.numel() > 0
    }


def prunable_weights(net: Network) -> list[str]:
    """Names of the tensors that masks of single weights may thin out, and budgets may divide."""
    return [name for name, reason in maskable(net).items() if reason is None]


def _reason(net: Network, name: str, pattern: MaskPattern) -> str | None:
    tensor = net.tensors[name]
    if tensor.frozen is not None:
        return tensor.frozen
    if tensor.role == "embedding":
        return "it is an embedding, whose rows are looked up and not multiplied"
    if name not in net.source.parameters:
        return "it is a buffer, not a parameter"
    if not tensor.value.is_floating_point():
        kind = str(tensor.value.dtype).removeprefix("torch.")
        return f"its numbers are {kind}, and masks are found for floating-point weights"
    rows, columns = matrix_shape(net, name)
    # Groups and blocks lie along the input channels of one tap, as kernels for them read weights.
    return pattern.refusal(rows, columns // taps_of(net, name))
