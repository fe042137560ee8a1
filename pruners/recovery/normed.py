"""Weights that are divided by norms (weight norm): where all of a slice is 0 there is no norm."""

from __future__ import annotations

from dataclasses import replace

import torch

from graphs import Network
from pruners.solvers import Solution


def normed(net: Network) -> dict[str, int]:
    """Weights that are divided by their norms → the dimension whose positions have one each."""
    found = {}
    for node in net.program.graph.nodes:
        if "_weight_norm" in str(node.target):
            held, dim = node.args[0], node.args[2] if len(node.args) > 2 else 0
            name = net.source.aliases.get(str(held.target)) if held.op == "get_attr" else None
            if name is not None and dim != -1:
                found[name] = dim
    return found


def with_every_slice(value: torch.Tensor, found: Solution, dim: int) -> Solution:
    """A solution in which every slice keeps its largest weight, and as many stay where they can.

    The smallest weights of other slices go in the place of those that came back.

    Args:
        value: the dense weight.
        found: its solution, in its shape.
        dim: along which slices lie.
    """
    dense, weight, mask = (
        v.movedim(dim, 0).flatten(1) for v in (value.detach(), found.weight, found.mask)
    )
    dead = ~mask.any(1)
    if not bool(dead.any()):
        return found
    back, others = torch.zeros_like(mask), mask.clone()
    back[dead, dense.abs().argmax(1)[dead]] = True
    others[~dead, weight.abs().masked_fill(~mask, -1.0).argmax(1)[~dead]] = False
    left = min(int(dead.sum()), int(others.sum()))
    sizes = weight.abs().masked_fill(~others, torch.inf).flatten()
    gone = torch.zeros_like(sizes, dtype=torch.bool)
    gone[sizes.topk(left, largest=False).indices] = True
    mask = (mask & ~gone.view_as(mask)) | back
    weight = torch.where(back, dense, weight) * mask
    shape = found.mask.movedim(dim, 0).shape
    return replace(
        found,
        weight=weight.view(shape).movedim(0, dim).contiguous(),
        mask=mask.view(shape).movedim(0, dim).contiguous(),
    )
