"""Digests: short texts that differ where contents do; against accidents, not against forgery."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from zlib import crc32

import torch

LENGTH = 16
"""Hexadecimal digits of a digest: 64 bits."""


def digest(*parts: str | bytes) -> str:
    """Digest of texts and bytes in their order; where one ends and the next begins counts."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8))
        found.update(data)
    return found.hexdigest()[:LENGTH]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes: the first digits of its SHA-256, as `sha256sum` prints them."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


def tensors_digest(tensors: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """Digest of tensors with their names, types and shapes; in the order they come in."""
    found = hashlib.sha256()
    for name, value in tensors.items() if isinstance(tensors, Mapping) else tensors:
        found.update(f"{name}:{value.dtype}{tuple(value.shape)};".encode())
        if not value.is_meta:
            found.update(checksum(value).to_bytes(4))
    return found.hexdigest()[:LENGTH]


def tensor_digest(name: str, value: torch.Tensor) -> str:
    """Digest of one tensor with its name, type and shape: 8 hexadecimal digits."""
    about = crc32(f"{name}:{value.dtype}{tuple(value.shape)};".encode())
    return f"{checksum(value, about):08x}"


def checksum(value: torch.Tensor, start: int = 0) -> int:
    """CRC-32 of a tensor's bytes, after what has the CRC-32 `start`: it takes no memory."""
    held = value.detach().cpu().contiguous()
    try:
        return crc32(held.numpy(), start)
    except TypeError:  # numpy has no bfloat16
        return crc32(held.reshape(-1).view(torch.uint8).numpy(), start)
