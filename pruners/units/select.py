"""Selection: the fewest lowest-scored units whose removal meets a target.

Every scope is a removal order over chunks of units, and a cut in it. The cost falls along the
order, so the cut is found by bisection with about log₂(number of units) cost counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch

from pruners.targets import Target

if TYPE_CHECKING:
    from graphs import Network

MinUnits = int | float | Mapping[str, int | float]


def select(
    net: Network,
    scores: Mapping[str, torch.Tensor],
    target: Target | Mapping[str, object],
    scope: str = "global",
    min_units: MinUnits = 0.05,
    round_to: int = 1,
) -> dict[str, torch.Tensor]:
    """Choose the units to keep, so that the pruned network costs at most what is asked.

    With several conditions the binding one decides. The choice is tight: with the last removed
    unit (or chunk of `round_to` units) put back, some condition would fail again.

    Args:
        net: the dense network.
        scores: axis name → scores (size,), the higher the more worth keeping; only these axes are
            pruned. Equal scores go in order of axis and index, the later index first.
        target: what the pruned network may cost.
        scope: "global": one threshold over the units of all axes; "uniform": the same share of
            every axis goes, chosen inside each axis by score.
        min_units: fewest units an axis keeps: a share of it (float below 1) or a number (int), for
            all axes or by axis name; never less than 1.
        round_to: kept numbers are multiples of this (an axis that is left alone keeps its size).

    Returns:
        Axis name → kept indices, int64, ascending; for every axis in `scores`.

    Raises:
        UnreachableTargetError: no choice meets the target; raised before any work.
        ValueError: an axis that is missing or frozen, scores of a wrong shape or not a number.
    """
    target = Target.parse(target)
    if scope not in SCOPES:
        raise ValueError(f'unknown scope "{scope}": expected one of {", ".join(SCOPES)}')
    if round_to < 1:
        raise ValueError(f"round_to must be at least 1 (got {round_to})")
    checked = {name: _checked(net, name, score) for name, score in scores.items()}
    least = floors(net, checked, min_units, round_to)
    target.check(net, least)

    queues = [
        _queue(score, least[name], round_to, SCOPES[scope]) for name, score in checked.items()
    ]
    removed = _cut(net, dict(zip(checked, queues, strict=True)), target)
    return {
        name: queue.order[count:].sort().values
        for name, queue, count in zip(checked, queues, removed, strict=True)
    }


def floors(
    net: Network, scores: Mapping[str, torch.Tensor], min_units: MinUnits, round_to: int
) -> dict[str, int]:
    """Fewest units that every scored axis keeps; see `select`."""
    return {
        name: max(net.axes[name].minimum, _floor(name, score.numel(), min_units, round_to))
        for name, score in scores.items()
    }


@dataclass(frozen=True)
class _Queue:
    """The units of one axis in their order of removal, in chunks that go together.

    Args:
        order: all unit indices, the first to go first, shape (size,).
        chunks: number of units in each removable chunk, shape (chunks,).
        values: threshold at which each chunk goes, ascending, float64, shape (chunks,).
    """

    order: torch.Tensor
    chunks: torch.Tensor
    values: torch.Tensor


def _queue(
    score: torch.Tensor,
    floor: int,
    round_to: int,
    rank: Callable[[torch.Tensor], torch.Tensor],
) -> _Queue:
    size = score.numel()
    # Flipping makes equal scores go from the last index to the first.
    order = size - 1 - score.flip(0).argsort(stable=True)
    # The first chunk brings the width to a multiple of round_to, later ones keep it there.
    first = size % round_to or round_to
    number = max(0, (size - floor - first) // round_to + 1) if size > floor else 0
    if round_to == 1:
        return _Queue(order, torch.ones(number, dtype=torch.int64), rank(score[order])[:number])
    chunks = torch.full((number,), round_to)
    chunks[:1] = first
    of_unit = torch.repeat_interleave(torch.arange(number), chunks)
    values = torch.zeros(number, dtype=torch.float64)
    values.index_add_(0, of_unit, rank(score[order])[: of_unit.numel()])
    values /= chunks
    # Rounding in the mean must not change the order inside an axis.
    return _Queue(order, chunks, values.cummax(0).values if number else values)


def _by_score(sorted_scores: torch.Tensor) -> torch.Tensor:
    return sorted_scores


def _by_share(sorted_scores: torch.Tensor) -> torch.Tensor:
    size = sorted_scores.numel()
    # The unit whose removal takes the removed share past (r + ½)/size: shares are rounded.
    return (torch.arange(size, dtype=torch.float64) + 0.5) / max(size, 1)


SCOPES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "global": _by_score,
    "uniform": _by_share,
}


def _cut(net: Network, queues: Mapping[str, _Queue], target: Target) -> list[int]:
    """Number of units to remove from each axis: the shortest prefix that meets the target."""
    if not queues:
        return []
    values = torch.cat([queue.values for queue in queues.values()])
    chunks = torch.cat([queue.chunks for queue in queues.values()])
    owner = torch.repeat_interleave(
        torch.arange(len(queues)), torch.tensor([q.chunks.numel() for q in queues.values()])
    )
    order = values.argsort(stable=True)
    chunks, owner = chunks[order], owner[order]

    def removed(steps: int) -> list[int]:
        weights = chunks[:steps].double()
        return torch.bincount(owner[:steps], weights, minlength=len(queues)).long().tolist()

    limits = target.limits(net)
    full = {name: axis.size for name, axis in net.axes.items()}

    def met(steps: int) -> bool:
        gone = dict(zip(queues, removed(steps), strict=True))
        sizes = full | {name: full[name] - count for name, count in gone.items()}
        return all(count(net, sizes) <= limit for count, limit in limits.items())

    return removed(bisect_left(range(owner.numel()), True, key=met))


def _checked(net: Network, name: str, score: torch.Tensor) -> torch.Tensor:
    if name not in net.axes:
        raise ValueError(f'scores for axis "{name}", which the network does not have')
    axis = net.axes[name]
    if axis.frozen is not None:
        raise ValueError(f'axis "{name}" cannot be pruned: {axis.frozen}; leave its scores out')
    if score.shape != (axis.size,):
        raise ValueError(
            f'scores of axis "{name}": expected shape ({axis.size},) (got {tuple(score.shape)})'
        )
    score = score.detach().to("cpu", torch.float64)
    if score.isnan().any():
        raise ValueError(f'scores of axis "{name}" are not numbers (got NaN)')
    return score


def _floor(name: str, size: int, min_units: MinUnits, round_to: int) -> int:
    """Fewest units the axis keeps, on the grid of `round_to`."""
    asked = min_units.get(name, 1) if isinstance(min_units, Mapping) else min_units
    if asked < 0 or (isinstance(asked, float) and asked > 1):
        raise ValueError(
            f'min_units for axis "{name}" must be a share from 0 to 1 or a number of units '
            f"(got {asked!r})"
        )
    least = max(1, ceil(asked * size) if isinstance(asked, float) else asked)
    return min(size, ceil(least / round_to) * round_to)
