"""Metanetworks by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from graphs.tools.registry import Registry

METANETWORKS: Registry[Callable[..., nn.Module]] = Registry("metanetwork")
"""Name -> class: `(net, evidence, target) -> Transformation`, with its configuration in `config`:
the `name` it is registered by, and the keyword arguments that build it again, as JSON values."""
