"""Budgets of widths: how many units of every axis stay, all cut by one `select`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pruners.budgets.problems.request import Cut, Kept, Request, Scores
from pruners.budgets.registry import checked, dividing
from pruners.targets import Target
from pruners.units.select import MinUnits, select

if TYPE_CHECKING:
    from graphs import Network


def allocate_widths(
    name: str | Mapping[str, float],
    net: Network,
    scores: Scores,
    target: Target | Mapping[str, object],
    *,
    min_units: MinUnits = 0.05,
    round_to: int = 1,
    cut: Cut = select,
    **evidence: Any,
) -> Kept:
    """Units to keep, so that the network costs at most what is asked, and just so.

    Args:
        name: a registered rule, or numbers or shares of units by axis name or glob pattern.
        net, scores, target, min_units, round_to, cut: see `Request`.
        evidence: what the rule reads beside the scores, and its options.

    Returns:
        Axis name → kept indices, int64, ascending; for every axis in `scores`.

    Raises:
        UnreachableTargetError: no choice meets the target; raised before any work.
        ValueError: unknown rule, evidence that is missing or unknown.
    """
    if isinstance(name, Mapping):
        name, evidence = "manual", {"values": name, **evidence}
    checked(name, "widths", evidence)
    request = Request(net, scores, Target.parse(target), min_units, round_to, cut)
    return dividing(name, "widths")(request, **evidence)
