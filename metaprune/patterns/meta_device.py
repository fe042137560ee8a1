"""Planning for a model on the meta device: shapes without values."""

from __future__ import annotations

import torch

from graphs import Network
from pruners.units.scores import SCORED_ROLES

BY_SHAPE = ("uniform", "erk", "manual")
"""Budgets that look at shapes only."""

FIRST_UNITS = "the first of every axis: the weights are on the meta device and have no values"
"""What a plan says of the units it keeps."""


def without_values(net: Network) -> str | None:
    """Name of a weight on the meta device, or None when all have values."""
    scored = (name for name, tensor in net.tensors.items() if tensor.role in SCORED_ROLES)
    return next((name for name in scored if net.tensors[name].value.is_meta), None)


def refuse(name: str, budget: str, metanet: object, transform: object) -> None:
    """Refuse what compares weights, when the weight of this name has none.

    Raises:
        ValueError: with what can be planned instead.
    """
    if transform is not None:
        asked = "a transformation"
    elif metanet is not None:
        asked = "a metanetwork"
    elif budget in BY_SHAPE:
        return
    else:
        asked = f'budget "{budget}"'
    raise ValueError(
        f"{asked} looks at the values of weights, and {name} is on the meta device, without any: "
        'plan with metanet=None, transform=None and budget="uniform", which keeps the first units '
        "of every axis, or load the weights"
    )


def equal_scores(net: Network) -> dict[str, torch.Tensor]:
    """The same score for all units of every axis that is not frozen: the last ones go first."""
    return {axis.name: torch.ones(axis.size) for axis in net.axes.values() if axis.frozen is None}
