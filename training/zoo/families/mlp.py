"""Multilayer perceptrons on flattened images."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import prod
from typing import Any

from torch import nn

from training.zoo.families.layers import (
    activation,
    draw_activation,
    draw_width,
    feature_norm,
    initialise,
)
from training.zoo.registry import family


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 1 to 5 hidden layers of 16 to 128 features."""
    return {
        "widths": [draw_width(rng, 16, 128) for _ in range(rng.randint(1, 5))],
        "act": draw_activation(rng),
        "norm": rng.choice(["none", "none", "layer", "batch"]),
    }


@family("mlp", sample)
def mlp(
    shape: tuple[int, ...], outputs: int, *, widths: Sequence[int], act: str, norm: str
) -> nn.Module:
    """Build flatten -> (linear, norm, activation)* -> linear. (B, C, H, W) -> (B, outputs)."""
    layers: list[nn.Module] = [nn.Flatten()]
    features = prod(shape)
    for width in widths:
        layers += [nn.Linear(features, width), feature_norm(norm, width), activation(act)]
        features = width
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    return initialise(nn.Sequential(*layers, nn.Linear(features, outputs)))
