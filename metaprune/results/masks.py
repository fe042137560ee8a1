"""Masks of a result after its module was trained by others: kept, or counted again."""

from __future__ import annotations

from dataclasses import replace

import torch

from graphs.tools.words import counted
from metaprune.results.accounting import achieved, layers
from metaprune.results.pruned import Pruned


def keep(result: Pruned) -> int:
    """Set what is outside of the masks to 0, in the module itself.

    Returns:
        How many numbers were not.
    """
    found = _outside(result)
    if found:
        with torch.no_grad():
            for name, mask in result.masks.items():
                weight = result.model.get_parameter(name)
                weight.masked_fill_(~mask.to(weight.device), 0.0)
    return found


def recounted(result: Pruned) -> Pruned:
    """The result with the costs of what its module is now, and a note where it lost its masks."""
    left = _outside(result)
    if not left:
        return result
    now = result.dense, result.network, result.model, result.plan, result.masks
    note = (
        f"{counted(left, 'weight')} outside of the masks are not 0 any more: the module was "
        "trained without them. Costs are counted again; result.keep_masks() after every step of "
        "an optimizer keeps them."
    )
    report = {**result.report, "achieved": achieved(*now), "layers": layers(*now)}
    report["notes"] = [*result.report["notes"], note]
    return replace(result, report=report)


def _outside(result: Pruned) -> int:
    """How many numbers outside of the masks are not 0."""
    found = 0
    for name, mask in result.masks.items():
        weight = result.model.get_parameter(name).detach()
        found += int(weight[~mask.to(weight.device)].count_nonzero())
    return found
