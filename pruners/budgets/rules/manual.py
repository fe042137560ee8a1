"""Manual budget: shares by name, for people who know what they want."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from pruners.budgets.names import assigned
from pruners.budgets.problems.problem import Choice
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.request import Kept, Request
from pruners.budgets.registry import rule

ROUNDED = 0.01
"""People write rounded numbers: a sum as close to the budget as this is projected onto it."""


@rule("manual", divides="masks")
def manual_masks(
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


@rule("manual", divides="widths")
def manual_widths(request: Request, *, values: Mapping[str, float] = MappingProxyType({})) -> Kept:
    """The widths that are given; axes that are not named share the rest evenly.

    Args:
        request: what is asked.
        values: share (a float up to 1) or number of units (an int) that stay, by axis name or glob
            pattern.

    Raises:
        ValueError: a name that matches nothing, a width out of range, or all axes named and the
            target missed.
        UnreachableTargetError: the axes that are left cannot make up for what was given.
    """
    given = assigned(values, request.scores, "prunable axis")
    fixed: Kept = {}
    for axis, value in given.items():
        size = request.net.axes[axis].size
        width = round(value * size) if isinstance(value, float) else value
        if not (0 < value <= (1 if isinstance(value, float) else size)):
            raise ValueError(
                f'axis "{axis}" has {size} units; keep a share above 0 and up to 1.0, or a whole '
                f"number of them (got {value!r})"
            )
        width = max(width, 1)
        score = request.scores[axis].detach().cpu().double()
        order = score.argsort(descending=True, stable=True)
        fixed[axis] = order[:width].sort().values
    rest = {axis: score for axis, score in request.scores.items() if axis not in given}
    limits = request.target.limits(request.net)
    sizes = {axis: len(kept) for axis, kept in fixed.items()}
    if not rest:
        for count, limit in limits.items():
            if count(request.net, sizes) > limit:
                raise ValueError(
                    f"the given widths cost {count(request.net, sizes):,} "
                    f"{count.__name__.removeprefix('count_')}, the target allows {limit:,.0f}; "
                    "lower them, or leave an axis out to let it make up for the difference"
                )
        return fixed
    gone = {
        axis: torch.tensor(sorted(set(range(request.net.axes[axis].size)) - set(kept.tolist())))
        for axis, kept in fixed.items()
    }
    small = request.net.remove({axis: index for axis, index in gone.items() if len(index)})
    kept = request.cut(
        small,
        rest, request.target.in_counts(request.net), "uniform",
        request.min_units, request.round_to,
    )  # fmt: skip
    return {axis: fixed[axis] if axis in fixed else kept[axis] for axis in request.scores}


@rule("manual", divides="ranks")
def manual_ranks(
    problem: RankProblem, *, values: Mapping[str, float] = MappingProxyType({})
) -> Choice:
    """The shares of stored numbers that are given; what is not named shares the rest evenly.

    Args:
        problem: the budget.
        values: share by weight name or glob pattern; 1 leaves a matrix dense.

    Raises:
        ValueError: a name that matches nothing, a share outside 0 to 1, or shares over the target.
    """
    given = assigned(values, problem.dials, "weight")
    for name, share in given.items():
        if not 0 <= share <= 1:
            raise ValueError(f'kept share of "{name}" must be from 0 to 1 (got {share})')
    fixed = torch.tensor([name in given for name in problem.dials])
    shares = torch.tensor([given.get(n, 0.0) for n in problem.dials], dtype=torch.float64)
    asked = torch.where(shares >= 1, problem.most + 1, shares * problem.sizes / problem.step)

    def at(share: float) -> torch.Tensor:
        return torch.where(fixed, asked, share * problem.sizes / problem.step)

    return problem.cut(at, 0.0, 1.0, free=~fixed)
