"""Ties: axes that keep equally many units, so that one configuration says all widths.

Axes of the same place in different blocks (`layers.0.mlp.out`, `layers.1.mlp.out`) are tied: they
keep equally many units, chosen in each by its own scores. For transformers models axes are tied
further until their class can be built in the new widths (`metaprune.saving.transformers`), and what
it cannot express is left alone; the result then opens with plain `from_pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from math import ceil
from typing import Any

import torch

from graphs import Network
from metaprune.results.dense import is_transformer
from metaprune.saving.transformers import plain_config, resized
from pruners import Target, UnreachableTargetError
from pruners.units.select import select as select_units

TRIED = (1, 2, 4, 8)
"""Steps that are taken from a tie, and half of them, to see whether its class has a configuration
for fewer units."""

MOST_JOINED = 32
"""Ties of ties that are tried; each costs a few models without weights."""

MOST_OFF = 16
"""Steps that a tie keeps more or fewer, at most, for widths that its class accepts (a hidden size
that the number of heads divides)."""


@dataclass(frozen=True)
class Tie:
    """Axes that are cut in step.

    Args:
        units: axis name → units of it in one step.
        steps: number of steps in each of them.
    """

    units: Mapping[str, int]
    steps: int

    def sizes(self, steps: int) -> dict[str, int]:
        """Axis name → units in so many steps."""
        return {axis: steps * units for axis, units in self.units.items()}


def select_tied(
    net: Network,
    scores: Mapping[str, torch.Tensor],
    target: Target,
    scope: str,
    min_units: float | int = 0.05,
    round_to: int = 1,
) -> dict[str, torch.Tensor]:
    """Units to keep, equally many in the axes of every tie.

    Args:
        net: the dense network.
        scores: axis name → scores (size,), the higher the more worth keeping.
        target, scope, min_units, round_to: see `pruners.units.select`.

    Returns:
        Axis name → kept indices, int64, ascending; axes that are left alone are not named.

    Raises:
        UnreachableTargetError: as `pruners.units.select`, for the axes that may be cut.
    """
    found = ties(net, scores)
    if not found and scores:
        raise UnreachableTargetError(
            f"the target {target} is out of reach with equal widths: there is no configuration of "
            f"{type(net.source.model).__name__} in which one of its widths is smaller; "
            'choose the pattern "channels", and open the result with metaprune.load'
        )
    floors = {
        axis: max(units, ceil(min_units * scores[axis].numel()))
        if isinstance(min_units, float)
        else max(units, min_units)
        for tie in found
        for axis, units in tie.units.items()
    }
    levelled = level(scores, found)

    def counts(fixed: Mapping[int, int]) -> list[int]:
        """Steps that every tie keeps, where some have their number already."""
        sizes = {axis: n for i, k in fixed.items() for axis, n in found[i].sizes(k).items()}
        free = {axis: score for axis, score in levelled.items() if axis not in sizes}
        smaller = resized(net, sizes)
        kept = select_units(smaller, free, target.in_counts(net), scope, floors, round_to)
        return [
            fixed[i] if i in fixed else min(len(kept[a]) // u for a, u in tie.units.items())
            for i, tie in enumerate(found)
        ]

    chosen = _accepted(net, found, counts, target, round_to)
    return {
        axis: scores[axis].topk(count).indices.sort().values
        for tie, steps in zip(found, chosen, strict=True)
        for axis, count in tie.sizes(steps).items()
    }


def ties(net: Network, names: Iterable[str]) -> list[Tie]:
    """The axes among `names` that may be cut, tied where they must keep equally many units."""
    grouped: dict[tuple[str, int, str], list[str]] = {}
    for name in names:
        axis = net.axes[name]
        grouped.setdefault((_place(name), axis.size, axis.kind), []).append(name)
    found = [Tie(dict.fromkeys(axes, 1), size) for (_, size, _), axes in grouped.items()]
    if not is_transformer(net.source.model) or plain_config(net) is None:
        return found
    good = [tie for tie in found if _expressible(net, tie)]
    bad = [tie for tie in found if tie not in good]
    for joined in islice(_joins(bad), MOST_JOINED):
        parts = [tie for tie in bad if tie.units.keys() <= joined.units.keys()]
        whole = sum(len(part.units) for part in parts) == len(joined.units)
        if len(parts) > 1 and whole and _expressible(net, joined):
            good.append(joined)
            bad = [tie for tie in bad if tie not in parts]
    return good


def level(scores: Mapping[str, torch.Tensor], found: Sequence[Tie]) -> dict[str, torch.Tensor]:
    """Scores that are the same in all axes of a tie: of the n-th step, the mean over its units."""
    made = {}
    for tie in found:
        order = {axis: scores[axis].argsort(stable=True) for axis in tie.units}
        steps = torch.stack(
            [
                scores[axis][order[axis]].double().reshape(tie.steps, units).mean(1)
                for axis, units in tie.units.items()
            ]
        ).mean(0)
        for axis, units in tie.units.items():
            made[axis] = torch.empty(tie.steps * units, dtype=torch.float64)
            made[axis][order[axis].cpu()] = steps.repeat_interleave(units).cpu()
    return made


def _place(name: str) -> str:
    """The name of an axis with the numbers of blocks left out."""
    parts = name.split(".")
    side = max((i for i, part in enumerate(parts) if part in ("in", "out")), default=len(parts))
    return ".".join(["*" if p.isdigit() else p for p in parts[:side]] + parts[side:])


def _joins(bad: Sequence[Tie]) -> list[Tie]:
    """Ties of ties: all of one size, then two whose sizes divide (a hidden size and its heads)."""
    sizes: dict[int, dict[str, int]] = {}
    for tie in bad:
        sizes.setdefault(tie.steps, {}).update(tie.units)
    equal = [Tie(units, steps) for steps, units in sizes.items()]
    proportional = []
    for a, b in combinations([*bad, *equal], 2):
        few, many = sorted((a, b), key=lambda tie: tie.steps)
        if few.steps < many.steps and many.steps % few.steps == 0:
            factor = many.steps // few.steps
            scaled = {axis: units * factor for axis, units in many.units.items()}
            proportional.append(Tie({**few.units, **scaled}, few.steps))
    return equal + proportional


def _expressible(net: Network, tie: Tie) -> bool:
    steps = (k for k in (*TRIED, tie.steps // 2) if 0 < k < tie.steps)
    return any(plain_config(resized(net, tie.sizes(tie.steps - k))) is not None for k in steps)


def _accepted(
    net: Network,
    found: Sequence[Tie],
    counts: Callable[[Mapping[int, int]], list[int]],
    target: Target,
    round_to: int,
) -> list[int]:
    """Steps that every tie keeps, such that the class of a transformers model accepts them.

    Where it does not, one tie gets the nearest number with which it does, and the others are chosen
    anew for the same target; of all ties, and of more and fewer, what gives away least of the
    target.
    """
    first = counts({})
    if not is_transformer(net.source.model) or _plain(net, found, first):
        return first
    accepted = []
    for (i, tie), sign in product(enumerate(found), (-round_to, round_to)):
        for off in range(sign, sign * (MOST_OFF + 1), sign):
            if not 0 < first[i] + off <= tie.steps:
                break
            try:
                other = counts({i: first[i] + off})
            except UnreachableTargetError:
                break
            if _plain(net, found, other):
                accepted.append(other)
                break
    limits = target.limits(net)

    def used(steps: Sequence[int]) -> float:
        sizes = _sizes(found, steps)
        return max(count(net, sizes) / limit for count, limit in limits.items())

    return max(accepted, key=used, default=first)


def _plain(net: Network, found: Sequence[Tie], counts: Sequence[int]) -> bool:
    return plain_config(resized(net, _sizes(found, counts))) is not None


def _sizes(found: Sequence[Tie], counts: Sequence[int]) -> dict[str, Any]:
    return {
        axis: size
        for tie, steps in zip(found, counts, strict=True)
        for axis, size in tie.sizes(steps).items()
    }
