"""Architectures by name, for those that need no data set to know their shapes."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from graphs.tools.registry import Registry

ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("architecture")
