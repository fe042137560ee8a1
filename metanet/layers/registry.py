"""Layers between units by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from graphs.tools.registry import Registry
from metanet.reading.values import Reader
from metanet.tables.layout import Layout


class Layer(Protocol):
    """One round in which units and tensors hear of each other; a `torch.nn.Module`.

    Law: it is equivariant to permuting the units of any axis.
    """

    def __call__(
        self,
        units: torch.Tensor,
        tokens: torch.Tensor,
        layout: Layout,
        reader: Reader,
        sigma: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Units (N, d), tokens of tensors (T, d), sigma (tensors,) -> new units and tokens."""


LAYERS: Registry[Callable[..., Layer]] = Registry("layer")
"""Name -> class; built with the keyword arguments `hidden`, `heads` and `checkpoint_above` of
`MetaNetwork`."""
