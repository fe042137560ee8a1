"""The networks of the benchmarks: He et al.'s ResNets for CIFAR, and VGG-19.

`registry` finds an architecture by name, and each is one file (`residual`, `vgg`). They judge, so
no zoo may contain them: the families that a metanetwork learns from live in `training.zoo`.
"""

from __future__ import annotations

from training.networks.registry import ARCHITECTURES
from training.networks.residual import BasicBlock, ResNet, cifar_resnet
from training.networks.vgg import VGG, cifar_vgg19

__all__ = ["ARCHITECTURES", "VGG", "BasicBlock", "ResNet", "cifar_resnet", "cifar_vgg19"]
