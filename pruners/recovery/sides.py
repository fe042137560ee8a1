"""Curvature of the output for the solvers of a pruning, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from graphs.tools.words import counted, first_of
from pruners.recovery.base import Pruning
from pruners.statistics import NoCurvatureError, collect
from pruners.statistics.curvature import UNREAD


def check_sides(method: str, sides: int) -> None:
    """Refuse a number of sides that an error does not have.

    Raises:
        ValueError: neither 1 nor 2.
    """
    if sides not in (1, 2):
        raise ValueError(
            f"recovery.{method}.sides is 1, errors of a layer's own outputs, or 2, as the "
            f"predictions feel them (got {sides})"
        )


def output_sides(
    pruning: Pruning, model: nn.Module, weights: Iterable[str]
) -> dict[str, dict[str, torch.Tensor]]:
    """Weight name → its curvature, for solvers; weights that gradients do not reach are missing.

    Args:
        pruning: its notes say where there is none.
        model: whose curvature it is.
        weights: names.
    """
    names = list(weights)
    try:
        found = collect(model, pruning.batches, names, ("curvature",))
    except NoCurvatureError as error:
        _note(pruning, f"Solved for the layers' own outputs: {error}.")
        return {}
    # What is said of weights that are not measured at all is said where they are solved.
    blocked = {name: why for name, why in found.unreached.items() if why != UNREAD}
    for reason in dict.fromkeys(blocked.values()):
        missing = [name for name, why in blocked.items() if why == reason]
        _note(
            pruning,
            f"Solved for their own outputs: {counted(len(missing), 'weight')} "
            f"({first_of(missing)}), because no gradient reaches the outputs: {reason}.",
        )
    curved = found.tensors()
    return {name: {"curvature": each["curvature"]} for name, each in curved.items()}


def _note(pruning: Pruning, note: str) -> None:
    """Say it once, however often it is so."""
    if note not in pruning.notes:
        pruning.notes.append(note)
