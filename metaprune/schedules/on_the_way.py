"""Targets on the way to a target: what most schedules are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphs import Network
from metaprune.patterns import Pattern
from pruners import Target
from pruners.budgets import prunable_weights
from pruners.targets import METRICS, Condition

Share = Callable[[float], float]
"""(Share of the cost that stays in the end) → share that stays here."""


def on_the_way(
    net: Network, target: Target | None, pattern: Pattern, shares: Sequence[Share]
) -> list[Target]:
    """A target for each step, in amounts that mean the same for a smaller network.

        on_the_way(net, target, pattern, [lambda end: (1 + end) / 2, lambda end: end])

    Args:
        net: the network before all steps.
        target: what is asked in the end.
        pattern: what goes.
        shares: for each step, what is to stay after it; the last one gives back what it is given.

    Raises:
        ValueError: there is no target, or the pattern cannot be pruned in steps; says why.
        UnreachableTargetError: no network that may be built meets the target.
    """
    if target is None:
        raise ValueError(
            f'pattern "{pattern.name}" without a target leaves no choice, so there are no '
            'steps to it; use schedule="one-shot"'
        )
    if pattern.once is not None:
        raise ValueError(f'pattern "{pattern.name}" is found in one step: {pattern.once}')
    masks = pattern.prunes == "weights"
    if masks:
        target.density(net, prunable_weights(net))
    else:
        target.check(net)
    at = _thinned if masks else _smaller
    # Not by the share, which rounds: a limit that is met exactly would be missed by a unit.
    end = target if masks else target.in_counts(net)
    return [*(at(net, target, share) for share in shares[:-1]), end]


def _smaller(net: Network, target: Target, share: Share) -> Target:
    """A target for shapes: counts, for shares would be of another network after a step."""
    counted = target.in_counts(net)
    ends = [min(limit / count(net), 1.0) for count, limit in target.limits(net).items()]
    return Target(
        tuple(
            Condition(one.metric, one.amount * share(end) / end)
            for one, end in zip(counted.conditions, ends, strict=True)
        )
    )


def _thinned(net: Network, target: Target, share: Share) -> Target:
    """A target for masks: shapes stay, so shares of the dense network stay what they are."""
    return Target(tuple(_one_thinned(net, one, share) for one in target.conditions))


def _one_thinned(net: Network, condition: Condition, share: Share) -> Condition:
    if condition.metric == "sparsity":
        return Condition("sparsity", 1 - share(1 - condition.amount))
    dense = METRICS[condition.metric].count(net)
    end = min(condition.limit(dense) / dense, 1.0)
    return Condition(condition.metric, share(end), share=True)
