"""The zoo: seeded random families of networks, trained on real data.

`registry` holds specifications and finds families by name; each family is one file in `families`,
and a file of yours that registers one is as good. `builder` trains the members of a zoo, `members`
keeps them on disk.
"""

from __future__ import annotations

from training.zoo import families as _families  # noqa: F401 (registered)
from training.zoo.builder import ZooConfig, build_zoo
from training.zoo.members import Member, load_member, members
from training.zoo.registry import FAMILIES, Spec, build, families, family, reserved, sample

__all__ = [
    "FAMILIES",
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
