"""Budgets over the weights of all blocks."""

from __future__ import annotations

from collections.abc import Mapping

from metaprune.streaming.settings import StreamSettings
from pruners.budgets.problems.levels import Levels, allowance
from pruners.curves import Curve, spend


def divided(
    shapes: Mapping[str, tuple[int, int]], curves: Mapping[str, Curve], settings: StreamSettings
) -> dict[str, float]:
    """Kept share of every weight: never more than is asked, and whole units of the pattern.

    Args:
        shapes: weight name → (rows, columns) of its matrix; not empty.
        curves: weight name → expected loss over its kept share; weights without one keep the share
            of all. None are read by the budget "uniform".
        settings: of the pruning.

    Raises:
        UnreachableTargetError: fewer weights are asked than the pattern keeps.
    """
    levels = Levels.of(settings.mask, shapes)
    sizes = dict(zip(levels.names, levels.sizes, strict=True))
    total = allowance(settings.share, sum(sizes.values()))
    shares = dict.fromkeys(shapes, settings.share)
    if settings.rule == "expected-loss" and curves:
        rest = sum(settings.share * sizes[name] for name in shapes if name not in curves)
        low, high = dict.fromkeys(curves, 0.0), dict.fromkeys(curves, 1.0)
        if settings.mask.m:
            low = dict.fromkeys(curves, settings.mask.least / settings.mask.m)
        shares |= spend(curves, sizes, settings.share * sum(sizes.values()) - rest, low, high)
    return levels.shares(levels.nearest([shares[name] for name in levels.names], total))
