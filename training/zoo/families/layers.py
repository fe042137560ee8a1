"""The small parts that families share: activations, normalisations, and how to draw them."""

from __future__ import annotations

import random
from functools import partial

from torch import nn

from graphs.tools.registry import unknown

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "hardswish": nn.Hardswish,
}


def activation(name: str) -> nn.Module:
    """Return an activation by name.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]()


def channel_norm(name: str, channels: int) -> nn.Module:
    """Return a normalisation of (B, channels, H, W): `batch`, `group` (groups of 4) or `none`.

    Raises:
        ValueError: for an unknown name, or channels that do not divide into groups of 4.
    """
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(channels // 4, channels)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"unknown channel norm {name!r}; known: batch, group, none")


def feature_norm(name: str, features: int) -> nn.Module:
    """Return a normalisation of (B, features): `batch`, `layer` or `none`.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "batch":
        return nn.BatchNorm1d(features)
    if name == "layer":
        return nn.LayerNorm(features)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"unknown feature norm {name!r}; known: batch, layer, none")


def initialise(model: nn.Module) -> nn.Module:
    """Draw weights that keep the scale of the signal through rectifiers, with or without norms.

    He et al. (arXiv 1502.01852): normal, variance 2 over the inputs of a unit; biases 0.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def draw_activation(rng: random.Random) -> str:
    """Draw an activation, half of the time a ReLU."""
    return rng.choice(["relu"] * 4 + ["gelu", "silu", "leaky_relu", "hardswish"])


def draw_width(rng: random.Random, low: int, high: int, step: int = 4) -> int:
    """Draw a width between low and high, a multiple of step, evenly on a logarithmic scale."""
    width = low * (high / low) ** rng.random()
    return max(step, round(width / step) * step)
