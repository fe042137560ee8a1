"""What runs between blocks, kept on disk: one file for each place, whole or not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from graphs.tools.files import read_tensors, write_tensors


@dataclass(frozen=True)
class States:
    """Lists of tensors by kind and place.

    Args:
        folder: of the files.
        device: on which they are read.
    """

    folder: Path
    device: torch.device

    def has(self, kind: str, place: int) -> bool:
        """Whether they were kept."""
        return self._path(kind, place).is_file()

    def keep(self, kind: str, place: int, tensors: Sequence[Tensor]) -> None:
        """Write a list, over what was there."""
        named = {f"{i:06d}": tensor for i, tensor in enumerate(tensors)}
        write_tensors(self._path(kind, place), named)

    def get(self, kind: str, place: int) -> list[Tensor]:
        """Read a list back.

        Raises:
            FileNotFoundError: it was not kept.
            ValueError: its file is damaged.
        """
        found, _ = read_tensors(self._path(kind, place))
        return [found[name].to(self.device) for name in sorted(found)]

    def drop(self, kind: str, place: int) -> None:
        """Let go of a list, if it is there."""
        self._path(kind, place).unlink(missing_ok=True)

    def _path(self, kind: str, place: int) -> Path:
        return self.folder / f"{kind}-{place:05d}.safetensors"
