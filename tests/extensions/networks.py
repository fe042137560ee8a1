"""Networks that a folder can name, what they are calibrated on, and a small zoo."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SOURCE = {"source": "function", "function": "tests.extensions.networks:mlp"}
FIT = {"epochs": 1, "batch_size": 20, "lr": 0.05, "device": "cpu"}
ZOO: dict[str, Any] = {
    "members": 1,
    "held_out": 1,
    "data": {"name": "digits", "train_size": 100},
    "fit": FIT,
}


def mlp() -> nn.Module:
    """A multilayer perceptron, (B, 8) → (B, 3), untrained."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    ).eval()


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(32, 8, generator=generator) for _ in range(count)]


def cnn(width: int = 8, outputs: int = 2) -> nn.Module:
    """A small convolutional network for images of one channel, (B, 1, H, W) → (B, outputs)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, outputs),
    ).eval()


CNN = {"source": "function", "function": "tests.extensions.networks:cnn"}
