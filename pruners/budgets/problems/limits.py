"""What a target leaves for matrices that become thin factors, in the numbers they store.

A factored matrix of rank r stores r·(m + n) numbers and multiplies by each of them as often as the
dense one by each of its m·n, so every metric is linear in the numbers stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphs.cost import macs_by_tensor
from graphs.tools import words
from pruners.targets import METRICS, Target, UnreachableTargetError, show

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class Limit:
    """Σ cost · stored ≤ room.

    Args:
        metric: that asks for it.
        cost: of one stored number of every matrix, (L,), float64.
        room: what all of them may cost together.
    """

    metric: str
    cost: torch.Tensor
    room: float

    def holds(self, stored: torch.Tensor) -> bool:
        """Whether so many stored numbers, (L,), are within the limit."""
        return float((self.cost * stored).sum()) <= self.room * (1 + 1e-12)


def limits(
    net: Network,
    target: Target,
    names: Sequence[str],
    fewest: torch.Tensor,
    counted: Iterable[str] | None = None,
) -> list[Limit]:
    """One limit for every condition of a target.

    Args:
        net: the dense network.
        target: `sparsity` counts the weights `counted`, all other metrics the whole network.
        names: of the weights that are factored.
        fewest: numbers that each of them stores at least, (L,).
        counted: names of all weights that the sparsity is one of; default `names`.

    Raises:
        UnreachableTargetError: less is asked than the fewest numbers cost; with the range.
        ValueError: a number of units is asked.
    """
    sizes = torch.tensor([net.tensors[n].value.numel() for n in names], dtype=torch.float64)
    listed = list(names if counted is None else counted)
    weights = sum(net.tensors[name].value.numel() for name in listed)
    found = []
    for condition in target.conditions:
        metric = METRICS[condition.metric]
        if condition.metric == "units":
            raise ValueError(
                f"low rank leaves units as they are, so it cannot meet units {condition.written}: "
                'ask for macs, params, size_mb, speedup or sparsity, or prune "channels"'
            )
        cost = _costs(net, condition.metric, names)
        named = float((cost * sizes).sum())
        dense = weights if condition.metric == "sparsity" else metric.count(net)
        rest = dense - named
        limit = Limit(condition.metric, cost, condition.limit(dense) - rest)
        if not limit.holds(fewest):
            least = rest + float((cost * fewest).sum())
            low, high = sorted((metric.express(round(least), dense), metric.express(dense, dense)))
            where = words.counted(len(names), "weight")
            raise UnreachableTargetError(
                f"the target {condition.metric} {condition.written} is out of reach: low rank in "
                f"{where} leaves {condition.metric} between {show(low)} and {show(high)}; ask "
                "for a value in this range"
            )
        found.append(limit)
    return found


def _costs(net: Network, metric: str, names: Sequence[str]) -> torch.Tensor:
    """What one stored number of every weight costs in a metric."""
    if metric in ("macs", "speedup"):
        macs = macs_by_tensor(net)
        listed = [macs.get(name, 0) / net.tensors[name].value.numel() for name in names]
    elif metric == "size_mb":
        listed = [float(net.tensors[n].value.element_size()) for n in names]
    else:
        listed = [1.0] * len(names)
    return torch.tensor(listed, dtype=torch.float64)
