"""Trained members of a zoo."""

from __future__ import annotations

from torch import nn

from training.sources.registry import source
from training.zoo.members import load_member


@source("member")
def from_member(*, path: str) -> nn.Module:
    """Load a member of a zoo from its folder."""
    return load_member(path).load()
