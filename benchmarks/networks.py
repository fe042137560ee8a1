"""Networks of published sizes with random weights, for benchmarks; no downloads, no torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

from training.networks.residual import ResNet

Built = tuple[nn.Module, tuple[Any, ...]]


class Logits(nn.Module):
    """A model of transformers that takes one tensor and returns its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.model(x).logits
        return logits


class VGG19(nn.Module):
    """Configuration E with batch norm (Simonyan & Zisserman 2015).

    Args:
        classes: of the task.
        hidden: width of the two hidden fully connected layers; None for a single linear classifier
            on 32 × 32 images, as the CIFAR variants have it.
    """

    def __init__(self, classes: int, hidden: int | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for repeats, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
            for _ in range(repeats):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels)]
                layers.append(nn.ReLU(inplace=True))
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier: nn.Module = nn.Linear(width, classes)
        if hidden is not None:
            self.classifier = nn.Sequential(
                nn.Linear(width * 7 * 7, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(hidden, classes),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions and a shortcut (He et al. 2016, v1.5)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, 4 width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Module):
    """Stages of 3, 4, 6 and 3 bottleneck blocks, times `depth`."""

    def __init__(self, classes: int = 1000, depth: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks: list[nn.Module] = []
        channels = 64
        for stage, count in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            for i in range(depth * count):
                blocks.append(Bottleneck(channels, width, 2 if stage and i == 0 else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1; batch norm, ReLU, 3x3, over everything before it in its block."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, before: list[torch.Tensor]) -> torch.Tensor:
        """[(B, c, H, W), ...] -> (B, growth, H, W)."""
        y = self.conv1(F.relu(self.norm1(torch.cat(before, 1))))
        return self.conv2(F.relu(self.norm2(y)))


class DenseBlock(nn.Module):
    """Layers that each see the outputs of all layers before them."""

    def __init__(self, channels: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(channels + i * growth, growth) for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, channels + layers * growth, H, W)."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(seen))
        return torch.cat(seen, 1)


class DenseNet121(nn.Module):
    """Dense blocks of 6, 12, 24 and 16 layers that grow by 32 channels (Huang et al. 2017)."""

    def __init__(self, classes: int = 1000, growth: int = 32) -> None:
        super().__init__()
        width = 64
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for stage, count in enumerate((6, 12, 24, 16)):
            if stage:
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
            layers.append(DenseBlock(width, count, growth))
            width += count * growth
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


def llama(**changes: Any) -> Built:
    """A Llama with grouped-query attention; default 512 wide, 8 layers, 8 query and 2 KV heads."""
    shape: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 8192,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "use_cache": False,
    } | changes
    model = Logits(LlamaForCausalLM(LlamaConfig(**shape)))
    return model, (torch.randint(0, shape["vocab_size"], (1, 64)),)


def _image(size: int) -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, size, size),)


NETWORKS: dict[str, Callable[[], Built]] = {
    "ResNet-56": lambda: (
        ResNet(blocks=(9, 9, 9), widths=(16, 32, 64), shortcut="project"),
        _image(32),
    ),
    "VGG-19 CIFAR": lambda: (VGG19(100, None), _image(32)),
    "VGG-19 224": lambda: (VGG19(1000, 4096), _image(224)),
    "ResNet-50": lambda: (ResNet50(), _image(224)),
    "ViT-B/16": lambda: (
        Logits(ViTForImageClassification(ViTConfig(num_labels=1000))),
        _image(224),
    ),
    "Llama 512x8": llama,
    "DenseNet-121": lambda: (DenseNet121(), _image(224)),
}


def build(name: str) -> Built:
    """A network of this name in evaluation mode, and example inputs; the same on every call."""
    torch.manual_seed(0)
    model, inputs = NETWORKS[name]()
    return model.eval(), inputs
