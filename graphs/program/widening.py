"""A program in double precision throughout, so that laws can be checked beyond its own rounding."""

from __future__ import annotations

import torch
from torch import fx
from torch.utils import _pytree as pytree

from graphs.rules.registry import known_of


def widen(graph: fx.Graph) -> None:
    """Turn every cast to float32, and every float32 tensor that is made, into float64; in place."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        args, kwargs = pytree.tree_map(_wide, (node.args, dict(node.kwargs)))
        made = known_of(node.target).makes
        held = node.meta.get("val")
        if made and isinstance(held, torch.Tensor) and held.dtype is torch.float32:
            kwargs["dtype"] = torch.float64
        node.args, node.kwargs = args, kwargs


def _wide(value: object) -> object:
    return torch.float64 if value is torch.float32 else value
