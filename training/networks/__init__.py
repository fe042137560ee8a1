"""The networks of the benchmarks: He et al.'s ResNets for CIFAR."""

from __future__ import annotations

from training.networks.residual import BasicBlock, ResNet, cifar_resnet

__all__ = ["BasicBlock", "ResNet", "cifar_resnet"]
