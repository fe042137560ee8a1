"""pruners.fingerprint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from zlib import crc32

import torch

if TYPE_CHECKING:
    from graphs import Network


def fingerprint(net: Network) -> dict[str, str]:
    """Short digests that tell whether two networks have the same architecture and weights.

    Returns:
        `architecture`: of the axes and of every tensor's name, dimensions and role;
        `weights`: of a checksum of every tensor, or "none" on the meta device.
    """
    structure = hashlib.sha256()
    for axis in net.axes.values():
        structure.update(f"{axis.name}={axis.size};".encode())
    weights = hashlib.sha256()
    for name, tensor in net.tensors.items():
        structure.update(f"{name}:{tensor.role}[{', '.join(map(str, tensor.dims))}];".encode())
        weights.update(f"{name}:{tensor.value.dtype}{tuple(tensor.value.shape)};".encode())
        if not tensor.value.is_meta:
            weights.update(_checksum(tensor.value).to_bytes(4))
    without = any(tensor.value.is_meta for tensor in net.tensors.values())
    return {
        "architecture": structure.hexdigest()[:16],
        "weights": "none" if without else weights.hexdigest()[:16],
    }


def _checksum(value: torch.Tensor) -> int:
    """CRC-32 of a tensor's bytes: it need not withstand forgery, and takes no memory."""
    held = value.detach().cpu().contiguous()
    try:
        return crc32(held.numpy())
    except TypeError:  # numpy has no bfloat16
        return crc32(held.reshape(-1).view(torch.uint8).numpy())
