"""Heads by name: what decodes the states of a metanetwork into its advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch

from graphs import Network
from graphs.tools.registry import Registry
from metanet.tables.layout import Layout


class WeightHead(Protocol):
    """Decodes unit and tensor states into new values of the tensors; a `torch.nn.Module`.

    Laws: it is equivariant to permuting the units of any axis, and before any training the values
    are the network's own, bit for bit.
    """

    def __call__(
        self,
        units: torch.Tensor,
        tokens: torch.Tensor,
        net: Network,
        layout: Layout,
        sigma: torch.Tensor,
    ) -> Mapping[str, torch.Tensor]:
        """The new values.

        Args:
            units: (N, d), a state for each slot of the layout.
            tokens: (T, d), a state for each of the first `layout.changed` matrices.
            net: the network.
            layout: its tables.
            sigma: (tensors,), root mean square of each matrix.

        Returns:
            Tensor name -> value of the shape, dtype and device of the old one.
        """


class LogitHead(Protocol):
    """Decodes the state of a unit, an axis or a tensor into a logit; a `torch.nn.Module`.

    Laws: states are decoded alike, one by one, and before any training every logit is 0.
    """

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(n, d) -> (n, 1), unbounded: the metanetwork bounds them."""


WEIGHT_HEADS: Registry[Callable[..., WeightHead]] = Registry("weight head")
"""Name -> class; built with the keyword arguments `hidden`, `rank`, `bound` (of the change of a
weight) and `checkpoint_above` of `MetaNetwork`."""
LOGIT_HEADS: Registry[Callable[..., LogitHead]] = Registry("logit head")
"""Name -> class; built with `hidden`, once for units, once for axes and once for tensors."""
