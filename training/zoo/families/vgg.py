"""Plain convolutional networks in the manner of VGG."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from training.zoo.families.layers import (
    activation,
    channel_norm,
    draw_activation,
    draw_width,
    initialise,
)
from training.zoo.registry import family


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 2 or 3 stages of 1 or 2 convolutions; widths grow from stage to stage."""
    large = shape[-1] >= 32
    width = draw_width(rng, 8, 24 if large else 20)
    widths = [width]
    for _ in range(2 if large else rng.randint(1, 2)):
        widths.append(draw_width(rng, widths[-1], 2 * widths[-1]))
    return {
        "widths": widths,
        "convolutions": [rng.randint(1, 2) for _ in widths],
        "act": draw_activation(rng),
        "norm": "batch" if large else rng.choice(["batch", "batch", "group", "none"]),
        "pool": rng.choice(["max", "average", "stride"]),
        "head": rng.choice(["mean", "mean", "flatten"]),
        "hidden": rng.choice([0, 0, draw_width(rng, 16, 64)]),
    }


@family("plain", sample)
def plain(
    shape: tuple[int, ...],
    outputs: int,
    *,
    widths: Sequence[int],
    convolutions: Sequence[int],
    act: str,
    norm: str,
    pool: str,
    head: str,
    hidden: int,
) -> nn.Module:
    """Build stages of 3x3 convolutions, halving the image between stages, then a classifier.

    Args:
        shape, outputs: (C, H, W) of the images; classes.
        widths: channels of every stage.
        convolutions: how many convolutions each stage has.
        act, norm: after every convolution; `norm` is `batch`, `group` or `none`.
        pool: how stages are joined, `max`, `average` or `stride`.
        head: `mean` over positions, or `flatten`.
        hidden: features of a hidden layer before the last, 0 for none.
    """
    layers: list[nn.Module] = []
    channels = shape[0]
    for stage, (width, count) in enumerate(zip(widths, convolutions, strict=True)):
        for index in range(count):
            joins = stage > 0 and index == 0
            if joins and pool != "stride":
                layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
            stride = 2 if joins and pool == "stride" else 1
            layers.append(nn.Conv2d(channels, width, 3, stride, 1, bias=norm == "none"))
            layers += [channel_norm(norm, width), activation(act)]
            channels = width
    layers += [nn.AdaptiveAvgPool2d(1)] if head == "mean" else []
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)] + [nn.Flatten()]
    with torch.no_grad():
        features = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    if hidden:
        layers += [nn.Linear(features, hidden), activation(act)]
        features = hidden
    return initialise(nn.Sequential(*layers, nn.Linear(features, outputs)))
