"""Image batches as tensors: normalisation, random crop and flip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Normalise:
    """Turn stored images into model inputs: (x / scale - mean) / std, channel by channel.

    Input (B, H, W, C) uint8; output (B, C, H, W) float32 whose memory stays channels-last, which
    is the layout that CPU and GPU convolutions run fastest on.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        mean = torch.tensor(self.mean) * self.scale
        std = torch.tensor(self.std) * self.scale
        return ((images.float() - mean) / std).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class CropFlip:
    """Shift every image by up to `padding` pixels over a black border and mirror half of them.

    Input and output (B, H, W, C), as stored; one gather for the whole batch.
    """

    padding: int
    flip: bool = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return the shifted, mirrored images."""
        count, height, width, _ = images.shape
        p = self.padding
        padded = F.pad(images, (0, 0, p, p, p, p))
        top, left = torch.randint(0, 2 * p + 1, (2, count, 1), generator=generator)
        rows = top + torch.arange(height)  # (B, H)
        columns = left + torch.arange(width)  # (B, W)
        if self.flip:
            mirror = torch.rand((count, 1), generator=generator) < 0.5
            columns = torch.where(mirror, columns.flip(1), columns)
        example = torch.arange(count)[:, None, None]
        return padded[example, rows[:, :, None], columns[:, None, :]]
