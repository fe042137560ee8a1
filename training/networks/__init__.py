"""The networks of the benchmarks: He et al.'s ResNets for CIFAR.

`registry` finds an architecture by name, and each is one file (`residual`). They judge, so no zoo
may contain them: the families that a metanetwork learns from live in `training.zoo`.
"""

from __future__ import annotations

from training.networks.registry import ARCHITECTURES
from training.networks.residual import BasicBlock, ResNet, cifar_resnet

__all__ = ["ARCHITECTURES", "BasicBlock", "ResNet", "cifar_resnet"]
