"""The zoo: seeded random families of networks, trained on real data."""

from __future__ import annotations

from training.zoo import families as _families  # noqa: F401 (registered)
from training.zoo.builder import ZooConfig, build_zoo
from training.zoo.members import Member, load_member, members
from training.zoo.registry import Spec, build, families, family, reserved, sample

__all__ = [
    "Member",
    "Spec",
    "ZooConfig",
    "build",
    "build_zoo",
    "families",
    "family",
    "load_member",
    "members",
    "reserved",
    "sample",
]
