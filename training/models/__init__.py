"""Networks by name: the CIFAR ResNets of the benchmarks, and loading from configuration."""

from __future__ import annotations

from training.models.residual import BasicBlock, ResNet, cifar_resnet
from training.models.sources import load, read_checkpoint, sources

__all__ = ["BasicBlock", "ResNet", "cifar_resnet", "load", "read_checkpoint", "sources"]
