"""The zoo: seeded random families of networks, trained on real data."""

from __future__ import annotations

from training.zoo import dense, llama, mlp, plain, residual, separable, vit
from training.zoo.builder import ZooConfig, build_zoo
from training.zoo.members import Member, load_member, members
from training.zoo.registry import Spec, build, families, family, reserved, sample

__all__ = [
    "Member",
    "Spec",
    "ZooConfig",
    "build",
    "build_zoo",
    "dense",
    "families",
    "family",
    "llama",
    "load_member",
    "members",
    "mlp",
    "plain",
    "reserved",
    "residual",
    "sample",
    "separable",
    "vit",
]
