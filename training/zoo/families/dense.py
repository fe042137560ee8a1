"""Concatenating networks in the manner of DenseNet, Huang et al. (arXiv 1608.06993)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.zoo.families.layers import activation, draw_activation, draw_width, initialise
from training.zoo.registry import family


class DenseLayer(nn.Module):
    """[x | conv(act(bn(x)))]: `growth` new channels behind those of the input."""

    def __init__(self, channels: int, growth: int, act: str) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = activation(act)
        self.conv = nn.Conv2d(channels, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, channels + growth, H, W)."""
        return torch.cat([x, self.conv(self.act(self.bn(x)))], dim=1)


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 2 or 3 blocks of 2 to 4 layers, and a growth of 4 to 12 channels."""
    large = shape[-1] >= 32
    return {
        "stem_stride": 2 if large else 1,
        "stem": draw_width(rng, 8, 20),
        "growth": draw_width(rng, 6 if large else 4, 14 if large else 12, step=2),
        "counts": [rng.randint(2, 4) for _ in range(3 if large else rng.randint(2, 3))],
        "compression": rng.choice([0.5, 0.75, 1.0]),
        "act": draw_activation(rng),
    }


@family("dense", sample)
def dense(
    shape: tuple[int, ...],
    outputs: int,
    *,
    stem: int,
    stem_stride: int,
    growth: int,
    counts: Sequence[int],
    compression: float,
    act: str,
) -> nn.Module:
    """Build dense blocks joined by 1x1 transitions that halve the image.

    Args:
        shape, outputs: (C, H, W) of the images; classes.
        stem: channels after the first convolution.
        stem_stride: of the first convolution; 2 halves the image at once.
        growth: channels that every layer adds.
        counts: layers of every block.
        compression: channels after a transition over channels before it.
        act: name of the activation.
    """
    layers: list[nn.Module] = [nn.Conv2d(shape[0], stem, 3, stem_stride, 1, bias=False)]
    channels = stem
    for block, count in enumerate(counts):
        if block > 0:
            kept = max(4, int(compression * channels))
            layers += [nn.BatchNorm2d(channels), activation(act)]
            layers += [nn.Conv2d(channels, kept, 1, bias=False), nn.AvgPool2d(2)]
            channels = kept
        for _ in range(count):
            layers.append(DenseLayer(channels, growth, act))
            channels += growth
    layers += [nn.BatchNorm2d(channels), activation(act), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialise(nn.Sequential(*layers, nn.Linear(channels, outputs)))
