"""Depthwise-separable and inverted-residual networks in the manner of MobileNet.

Howard et al. (arXiv 1704.04861) and Sandler et al. (arXiv 1801.04381); the optional
squeeze-and-excitation is Hu et al.'s (arXiv 1709.01507).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from training.zoo.families.layers import activation, draw_activation, draw_width, initialise
from training.zoo.registry import family


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate in (0, 1) computed from all channels' means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x * self.gate(x)


class Separable(nn.Module):
    """[1x1 expand] -> 3x3 depthwise -> [squeeze-excite] -> 1x1 project, plus x if shapes agree.

    Args:
        channels, out_channels, stride: of the block.
        expansion: channels of the depthwise convolution over those of the input; at 1 there is
            no expansion layer and the projection is activated, as in MobileNet.
        squeeze: whether to insert squeeze-and-excitation.
        act: name of the activation.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        stride: int,
        *,
        expansion: int,
        squeeze: bool,
        act: str,
    ) -> None:
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)]
            layers += [activation(act)]
        layers += [
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            activation(act),
        ]
        layers += [SqueezeExcite(inner, max(4, inner // 4))] if squeeze else []
        layers += [nn.Conv2d(inner, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        layers += [activation(act)] if expansion == 1 else []
        self.body = nn.Sequential(*layers)
        self.adds = expansion > 1 and stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        return x + self.body(x) if self.adds else self.body(x)


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw a stem, 2 or 3 stages of 1 to 3 blocks, and an expansion of 1, 2 or 3."""
    large = shape[-1] >= 32
    expansion = rng.choice([1, 2, 3])
    widths = [draw_width(rng, 12, 24 if large else 20)]
    for _ in range(2 if large else rng.randint(1, 2)):
        widths.append(draw_width(rng, widths[-1], 2 * widths[-1]))
    return {
        "stem_stride": 2 if large else 1,
        "stem": draw_width(rng, 12, 24),
        "widths": widths,
        "counts": [rng.randint(1, 3 if expansion > 1 else 2) for _ in widths],
        "expansion": expansion,
        "squeeze": rng.random() < 0.3,
        "act": draw_activation(rng),
    }


@family("separable", sample)
def separable(
    shape: tuple[int, ...],
    outputs: int,
    *,
    stem: int,
    stem_stride: int,
    widths: Sequence[int],
    counts: Sequence[int],
    expansion: int,
    squeeze: bool,
    act: str,
) -> nn.Module:
    """Build a 3x3 stem, stages of `Separable` blocks, the mean over positions and a classifier.

    Args:
        shape, outputs: (C, H, W) of the images; classes.
        stem: channels after the first convolution.
        stem_stride: of the first convolution; 2 halves the image at once.
        widths, counts: channels and number of blocks of every stage; every stage but the first
            halves the image.
        expansion, squeeze, act: of the blocks.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], stem, 3, stem_stride, 1, bias=False),
        nn.BatchNorm2d(stem),
        activation(act),
    ]
    channels = stem
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(
                Separable(channels, width, stride, expansion=expansion, squeeze=squeeze, act=act)
            )
            channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)]
    return initialise(nn.Sequential(*layers))
