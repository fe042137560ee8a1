"""Residual convolutional networks, with zero-padded or projected shortcuts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from training.networks.residual import ResNet
from training.zoo.families.layers import activation, draw_activation, draw_width
from training.zoo.registry import family


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 2 or 3 stages of 1 to 4 blocks; the width doubles or grows by half between them."""
    large = shape[-1] >= 32
    widths = [draw_width(rng, 8, 20 if large else 16)]
    for _ in range(2 if large else rng.randint(1, 2)):
        widths.append(round(widths[-1] * rng.choice([1.5, 2.0, 2.0]) / 4) * 4)
    return {
        "blocks": [rng.randint(1, 4) for _ in widths],
        "widths": widths,
        "shortcut": rng.choice(["pad", "project"]),
        "inner": rng.choice([0.5, 1.0, 1.0, 1.0, 1.5]),
        "act": "relu" if large else draw_activation(rng),
    }


@family("residual", sample)
def residual(
    shape: tuple[int, ...],
    outputs: int,
    *,
    blocks: Sequence[int],
    widths: Sequence[int],
    shortcut: str,
    inner: float = 1.0,
    act: str = "relu",
) -> nn.Module:
    """Build a `ResNet`; see there. (B, C, H, W) -> (B, outputs)."""
    return ResNet(
        in_channels=shape[0],
        classes=outputs,
        blocks=blocks,
        widths=widths,
        shortcut=shortcut,
        inner=inner,
        act=partial(activation, act),
    )
