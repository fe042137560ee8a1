"""VGG for small images: configuration E with batch norm (Simonyan & Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from training.networks.registry import ARCHITECTURES

E = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions between halvings of the image."""


class VGG(nn.Module):
    """Convolutions with batch norm, halved after every stage, and a linear classifier.

    Args:
        classes: outputs.
        stages: (channels, convolutions) of every stage.
    """

    def __init__(self, classes: int, stages: Sequence[tuple[int, int]] = E) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for channels, count in stages:
            for _ in range(count):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels)]
                layers.append(nn.ReLU(inplace=True))
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


@ARCHITECTURES.register("cifar_vgg19")
def cifar_vgg19(width: int = 64, classes: int = 100) -> VGG:
    """Build VGG-19 for CIFAR: 16 convolutions, one linear layer.

    Args:
        width: channels of the first stage; 64 in the paper.
        classes: outputs.
    """
    return VGG(classes, [(channels * width // 64, count) for channels, count in E])
