"""Which residual branches to drop: the ones that the network misses least for what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphs.depth.drop import count_without
from pruners.targets import METRICS, Target, UnreachableTargetError

if TYPE_CHECKING:
    from graphs import Network

# How far the network without these blocks, by name, is from the dense one.
Damage = Callable[[Sequence[str]], float]


@dataclass(frozen=True)
class Drops:
    """Blocks to drop, in the order in which they were chosen.

    Args:
        names: of blocks (`net.blocks()`).
        damage: of the network without them, after each choice, in the unit of the loss.
    """

    names: tuple[str, ...]
    damage: tuple[float, ...]


def choose_blocks(net: Network, target: Target, damage: Damage) -> Drops:
    """Drop blocks one by one until a target is met (Song et al. 2024, SLEB, algorithm 1).

    Every round tries each block that is left on top of those already dropped, and drops the one
    that adds least damage per unit of cost saved. The number of evaluations of the damage is at
    most half the square of the number of blocks. Blocks that could stay within the target after
    all, because a later one saved more, are put back: no dropped block could come back within it.

    Args:
        net: the dense network.
        target: what it may cost.
        damage: how far the network without blocks is from the dense one: measured (`imitated`),
            or expected (`pruners.curves.branch_losses`).

    Raises:
        UnreachableTargetError: even without any block the network costs more; with the range.
        ValueError: there are no blocks.
    """
    blocks = {b.name: b for b in net.blocks()}
    if not blocks:
        raise ValueError(
            "no block can be dropped: the network has no residual sums around weights; prune "
            '"channels" instead'
        )
    limits = target.limits(net)
    _check(net, target, list(blocks))
    chosen: list[str] = []
    losses: list[float] = []
    gone: set[str] = set()
    cost = {count: count(net) for count in limits}
    while any(cost[count] > limit for count, limit in limits.items()):
        options = []
        for name in blocks:
            smaller = {c: c(count_without(net, [*chosen, name])) for c in limits}
            # A condition that is met already makes no block more urgent.
            saved = sum(
                (cost[c] - smaller[c]) / max(1, cost[c])
                for c, limit in limits.items()
                if cost[c] > limit
            )
            if saved <= 0:
                continue
            loss = damage([*chosen, name])
            gain = (loss - (losses[-1] if losses else 0.0)) / saved
            options.append((gain, name, loss, smaller))
        _, name, loss, cost = min(options, key=lambda option: option[:2])
        gone.update(blocks.pop(name).tensors)
        chosen.append(name)
        losses.append(loss)
        # A block inside a dropped one went with it.
        blocks = {n: b for n, b in blocks.items() if not set(b.tensors) <= gone}
    return _without_excess(net, Drops(tuple(chosen), tuple(losses)), limits, damage)


def _without_excess(
    net: Network, drops: Drops, limits: Mapping[Callable[..., int], float], damage: Damage
) -> Drops:
    """Put blocks back that a later, more expensive one made up for, the most missed first."""
    chosen = list(drops.names)
    while True:
        fitting = []
        for name in chosen[:-1]:
            rest = [other for other in chosen if other != name]
            small = count_without(net, rest)
            if all(count(small) <= limit for count, limit in limits.items()):
                fitting.append(rest)
        if not fitting:
            break
        chosen = min(fitting, key=damage) if len(fitting) > 1 else fitting[0]
    if len(chosen) == len(drops.names):
        return drops
    return Drops(tuple(chosen), tuple(damage(chosen[: i + 1]) for i in range(len(chosen))))


def imitated(net: Network, of_weights: Callable[[Mapping[str, torch.Tensor]], float]) -> Damage:
    """The damage of a network whose branches are tried: their parameters become 0.

    That is the network without them, and nothing is rebuilt.

    Args:
        net: the dense network.
        of_weights: how far weights (name → value; the others stay) take the network from the dense
            one, for instance `pruners.statistics.Imitation.value`.
    """
    tensors = {block.name: block.tensors for block in net.blocks()}

    def without(names: Sequence[str]) -> float:
        zeros = {tensor for name in names for tensor in tensors[name]}
        held = sorted(zeros & set(net.source.parameters))
        return of_weights({name: torch.zeros_like(net.tensors[name].value) for name in held})

    return without


def _check(net: Network, target: Target, names: list[str]) -> None:
    least = count_without(net, names)
    for condition in target.conditions:
        metric = METRICS[condition.metric]
        dense, left = metric.count(net), metric.count(least)
        if left > condition.limit(dense):
            ends = sorted((metric.express(left, dense), metric.express(dense, dense)))
            raise UnreachableTargetError(
                f"the target {condition.metric} {condition.written} is out of reach: dropping "
                f"blocks leaves {condition.metric} between {ends[0]:,.4g} and {ends[1]:,.4g}; ask "
                'for a value in this range, or prune "channels" too'
            )
