"""Small things that the tests of the public face share."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import metanet
from training.data.core import Data

SOURCE = {"source": "function", "function": "tests.metaprune.networks:cnn"}
IMAGE_SHAPE = (3, 8, 8)


def cnn(seed: int = 0, width: int = 8) -> nn.Module:
    """A small convolutional network with and without batch norm, untrained."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 10),
    ).eval()


def images(count: int = 4, seed: int = 0) -> tuple[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, *IMAGE_SHAPE, generator=generator),)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    )


class Normed(nn.Module):
    """A residual stream behind layer norms, on images of 8 × 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(64, 16), nn.Linear(16, 10)
        self.norm, self.last = nn.LayerNorm(16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.flatten(1))
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.head(self.last(x))


def digits(train_size: int = 200) -> Data:
    from training import data

    return data.load("digits", train_size=train_size)


def restless_metanet(path: Path) -> Path:
    """A metanetwork that says something, unlike a fresh one; untrained."""
    meta = metanet.MetaNetwork(hidden=8, layers=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in meta.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    metanet.save(meta, path)
    return path
