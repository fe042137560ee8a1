"""Manual budget: kept shares by name, for people who know what they want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

import torch

from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.registry import allocator

ROUNDED = 0.01
"""People write rounded numbers: a sum as close to the budget as this is projected onto it."""


@allocator("manual")
def manual(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    values: Mapping[str, float] = MappingProxyType({}),
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """The shares that are given; what is not named shares the rest of the budget evenly.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        values: kept share by tensor name or glob pattern (`"layer3.*": 0.2`); a name counts before
            a pattern, an earlier pattern before a later one.
        lower, upper: bounds for what is not named.

    Raises:
        ValueError: a name or pattern that matches nothing, a share outside 0 to 1, or a sum that
            misses the budget with nothing left to make up for it.
    """
    given = assigned(values, weights, "weight")
    for name, share in given.items():
        if not 0 <= share <= 1:
            raise ValueError(f'kept share of "{name}" must be from 0 to 1 (got {share})')
    sizes = {name: weight.numel() for name, weight in weights.items()}
    total = density * sum(sizes.values())
    fixed = sum(share * sizes[name] for name, share in given.items())
    rest = [name for name in weights if name not in given]
    if not rest:
        if abs(fixed - total) > max(1.0, ROUNDED * total):
            raise ValueError(
                f"the given shares keep {fixed / sum(sizes.values()):.4g} of the weights, the "
                f"target asks for {density:.4g}; change them, or leave a tensor out to let it make "
                "up for the difference"
            )
        listed = torch.tensor([given[name] for name in weights], dtype=torch.float64)
        if abs(fixed - total) <= 1e-9 * total:
            return {name: given[name] for name in weights}
        # A share of exactly 0 or 1 is meant; the others move.
        free = ((listed > 0) & (listed < 1)).double()
        exact = project(
            torch.logit(listed.clamp(1e-6, 1 - 1e-6)),
            list(sizes.values()),
            density,
            listed * (1 - free),
            torch.where(free > 0, 1.0, listed),
        )
        return dict(zip(weights, exact.tolist(), strict=True))
    room = sum(sizes[name] for name in rest)
    if not -0.5 <= total - fixed <= room + 0.5:
        low, high = fixed / sum(sizes.values()), (fixed + room) / sum(sizes.values())
        raise ValueError(
            f"the given shares leave a kept share of {low:.4g} to {high:.4g} in reach, the target "
            f"asks for {density:.4g}; change them or the target"
        )
    share = min(max((total - fixed) / room, 0.0), 1.0)
    named = {n: b for n, b in lower.items() if n in rest} if isinstance(lower, Mapping) else lower
    below = bounds(named, rest, 0.0)
    named = {n: b for n, b in upper.items() if n in rest} if isinstance(upper, Mapping) else upper
    above = bounds(named, rest, 1.0)
    even = project(torch.zeros(len(rest)), [sizes[n] for n in rest], share, below, above)
    others = dict(zip(rest, even.tolist(), strict=True))
    return {name: given[name] if name in given else others[name] for name in weights}


def assigned(values: Mapping[str, float], names: Iterable[str], what: str) -> dict[str, float]:
    """The value of every name that an entry covers: exact names first, then patterns in order.

    Raises:
        ValueError: an entry that covers nothing, or a value that is not a number.
    """
    listed = list(names)
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f'the budget of "{key}" must be a number (got {value!r})')
        matched = [key] if key in listed else [n for n in listed if fnmatchcase(n, key)]
        if not matched:
            near = ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")
            raise ValueError(
                f'"{key}" of the budget is neither the name of a {what} nor a pattern that matches '
                f"one: expected names such as {near}"
            )
        for name in matched:
            if name == key or (name not in found and name not in values):
                found[name] = value
    return found
