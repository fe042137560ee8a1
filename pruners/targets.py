"""Targets: what a pruned network may cost, in the words of the person who asks.

    Target.parse({"macs": "50%"})     at most half of the dense multiply-accumulates
    Target.parse({"params": 6e6, "speedup": 2.0})     both; the binding one decides

A target is a conjunction of upper limits on counts that fall when units are removed (multiply-
accumulates, parameters, bytes, the units themselves), so the cheapest network that may be built
bounds what is reachable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, TypeAlias

from graphs.cost import count_macs, count_params, sizes_of
from graphs.tools.registry import unknown

if TYPE_CHECKING:
    from graphs import Network

Sizes: TypeAlias = Mapping[str, int]

SPARED = ("head feature",)
"""Kinds of units that channel pruning leaves alone: fast attention kernels, and the classes of most
transformers, want one head size for queries, keys and values. Whole heads are removed."""


class UnreachableTargetError(ValueError):
    """No network that may be built meets the target; the message gives the reachable range."""


class MetAlreadyError(UnreachableTargetError):
    """The network is smaller than the target asks for, and what is gone stays gone."""


def count_bytes(net: Network, sizes: Sizes | None = None) -> int:
    """Bytes of all parameters and buffers in their own dtypes; `sizes` overrides axis sizes."""
    widths = sizes_of(net, sizes)
    return sum(
        tensor.value.element_size() * net.extents[name].count(widths)
        for name, tensor in net.tensors.items()
    )


def count_units(net: Network, sizes: Sizes | None = None) -> int:
    """Channels, heads and experts that may be pruned; `sizes` overrides axis sizes."""
    widths = sizes_of(net, sizes)
    free = (a for a in net.axes.values() if a.frozen is None and a.kind not in SPARED)
    return sum(widths[axis.name] for axis in free)


@dataclass(frozen=True)
class Metric:
    """A quantity a person asks for, as an upper limit on something that can be counted.

    Args:
        count: (network, sizes) → the count that pruning lowers.
        limit: (asked amount, dense count) → the largest count that satisfies it.
        express: (count, dense count) → the same count in the words of the metric.
        low: smallest sensible amount.
        high: largest sensible amount.
        hint: the remedy when an amount is not sensible.
    """

    count: Callable[..., int]
    limit: Callable[[float, int], float]
    express: Callable[[int, int], float]
    low: float
    high: float
    hint: str


def _absolute(count: Callable[..., int], unit: float, name: str) -> Metric:
    return Metric(
        count,
        limit=lambda amount, dense: amount * unit,
        express=lambda counted, dense: counted / unit if unit != 1 else counted,
        low=0.0 if unit != 1 else 1.0,
        high=inf,
        hint=f'give a positive amount, or a share of the dense network such as "{name}": "50%"',
    )


COUNTS = ("macs", "params", "units")

METRICS: Mapping[str, Metric] = {
    "macs": _absolute(count_macs, 1, "macs"),
    "params": _absolute(count_params, 1, "params"),
    "size_mb": _absolute(count_bytes, 1e6, "size_mb"),
    "units": _absolute(count_units, 1, "units"),
    "speedup": Metric(
        count_macs,
        limit=lambda amount, dense: dense / amount,
        express=lambda counted, dense: dense / counted if counted else inf,
        low=1.0,
        high=inf,
        hint="a speed-up is dense MACs / pruned MACs, at least 1; 2.0 halves the MACs",
    ),
    "sparsity": Metric(
        count_params,
        limit=lambda amount, dense: dense * (1.0 - amount),
        express=lambda counted, dense: 1.0 - counted / dense if dense else 0.0,
        low=0.0,
        high=1.0,
        hint="a sparsity is the share of the weights that goes, from 0 to below 1",
    ),
}


@dataclass(frozen=True)
class Condition:
    """One asked metric: an amount, or a share (0 to 1) of what the dense network costs."""

    metric: str
    amount: float
    share: bool = False

    def limit(self, dense: int) -> float:
        """Largest count that satisfies the condition, given the dense network's count."""
        return self.amount * dense if self.share else METRICS[self.metric].limit(self.amount, dense)

    @property
    def written(self) -> str | int | float:
        """The condition's value as a person writes it: "50%", 2.0, 6000000."""
        if self.share:
            return f"{100 * self.amount:.10g}%"
        return (
            int(self.amount) if self.amount.is_integer() and self.metric in COUNTS else self.amount
        )


@dataclass(frozen=True)
class Target:
    """An immutable conjunction of conditions on the cost of the pruned network."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, asked: Mapping[str, object] | Target) -> Target:
        """Read a target.

        Args:
            asked: metric → amount. `macs` and `params`: a count or "50%" of the dense network;
                `size_mb`: millions of bytes as stored, or a percentage; `units`: channels, heads
                and experts that may be pruned, a number or "50%"; `speedup`: dense MACs / pruned
                MACs; `sparsity`: share of the weights that goes (0.5 or "50%").

        Raises:
            ValueError: no metric, an unknown metric, or an amount that makes no sense.
        """
        if isinstance(asked, Target):
            return asked
        if not isinstance(asked, Mapping) or not asked:
            raise ValueError(
                f'a target is a mapping such as {{"macs": "50%"}} with at least one of '
                f"{', '.join(METRICS)} (got {asked!r})"
            )
        return cls(tuple(_condition(metric, value) for metric, value in asked.items()))

    @property
    def asked(self) -> dict[str, str | int | float]:
        """The target as a mapping that `parse` reads back."""
        return {condition.metric: condition.written for condition in self.conditions}

    def __str__(self) -> str:
        return " and ".join(f"{metric} {value}" for metric, value in self.asked.items())

    def limits(self, net: Network) -> dict[Callable[..., int], float]:
        """Counting function → tightest limit on its count, the form a search needs."""
        found: dict[Callable[..., int], float] = {}
        for condition in self.conditions:
            count = METRICS[condition.metric].count
            limit = condition.limit(count(net))
            found[count] = min(limit, found.get(count, inf))
        return found

    def share(self, net: Network) -> float:
        """The share of the dense cost that the tightest condition leaves, at most 1."""
        return min(1.0, *(limit / count(net) for count, limit in self.limits(net).items()))

    def in_counts(self, net: Network) -> Target:
        """The same target in absolute amounts, for a network that is smaller than `net` already."""
        named = {METRICS[name].count: name for name in (*COUNTS, "size_mb")}
        return Target(
            tuple(
                Condition(named[count], limit / 1e6 if named[count] == "size_mb" else limit)
                for count, limit in self.limits(net).items()
            )
        )

    def in_amounts(self, net: Network) -> Target:
        """The same target with shares of what `net` costs as amounts: it may be of a copy with more
        parameters, whose ties are undone.
        """
        return Target(
            tuple(
                Condition(c.metric, c.amount * METRICS[c.metric].express(count, count))
                if c.share
                else c
                for c in self.conditions
                for count in (METRICS[c.metric].count(net),)
            )
        )

    def on_the_way(self, net: Network, progress: float) -> Target:
        """A milder target, in absolute amounts: what steps of equal ratio have reached.

        Args:
            net: the dense network.
            progress: share of the steps that are done, above 0 and up to 1; at 1 it is this target.
        """
        found = []
        for condition in self.in_counts(net).conditions:
            dense = METRICS[condition.metric].count(net)
            limit = condition.limit(dense)
            behind = max(1.0, dense / max(limit, 1e-300)) ** (1 - progress)
            found.append(Condition(condition.metric, condition.amount * behind))
        return Target(tuple(found))

    def reachable(
        self, net: Network, floors: Sizes | None = None
    ) -> dict[str, tuple[float, float]]:
        """The range of every asked metric over the networks that may be built.

        Args:
            net: the dense network.
            floors: axis name → fewest units it may keep; default the minimum of every axis that is
                not frozen (one unit, mostly). Axes that are not named keep their size.

        Returns:
            Metric → (lowest, highest) in the words of the metric (percentages of the dense network
            as counts).
        """
        found = {}
        for condition in self.conditions:
            metric = METRICS[condition.metric]
            dense, least = metric.count(net), metric.count(net, _floors(net, floors))
            ends = sorted((metric.express(least, dense), metric.express(dense, dense)))
            found[condition.metric] = (ends[0], ends[1])
        return found

    def check(self, net: Network, floors: Sizes | None = None) -> None:
        """Refuse a target that no choice of units meets.

        Args:
            net: the dense network.
            floors: as in `reachable`.

        Raises:
            UnreachableTargetError: with the reachable range of the metric that fails.
        """
        for condition in self.conditions:
            metric = METRICS[condition.metric]
            dense, least = metric.count(net), metric.count(net, _floors(net, floors))
            if least > condition.limit(dense):
                low, high = self.reachable(net, floors)[condition.metric]
                raise UnreachableTargetError(
                    f"the target {condition.metric} {condition.written} is out of reach: removing "
                    f"units leaves {condition.metric} between {show(low)} and {show(high)} "
                    f"(dense: {show(metric.express(dense, dense))}); ask for a value in this "
                    "range, lower min_units, or allow more axes to be pruned"
                )

    def density(self, net: Network, weights: Iterable[str]) -> float:
        """Share of the named weights that may stay non-zero, when pruning is by masks.

        Args:
            net: the dense network.
            weights: names of the tensors that masks may thin out.

        Returns:
            The largest share in [0, 1] that meets every condition: `sparsity` counts the named
            weights alone, `params` all non-zero parameters of the network.

        Raises:
            ValueError: a condition that masks cannot influence (MACs, speed-up, bytes).
            UnreachableTargetError: fewer parameters asked than the unnamed tensors hold.
        """
        prunable = sum(net.tensors[name].value.numel() for name in weights)
        if prunable == 0:
            raise ValueError("no weights to prune by masks: the network has no weight matrices")
        everything = count_params(net)
        shares = [1.0]
        for condition in self.conditions:
            if condition.metric == "sparsity":
                shares.append(1.0 - condition.amount)
            elif condition.metric == "params":
                limit = condition.limit(everything)
                if limit < everything - prunable:
                    raise UnreachableTargetError(
                        f"the target params {condition.written} is out of reach: masks can bring "
                        f"the non-zero parameters from {everything:,} to "
                        f"{everything - prunable:,} only"
                    )
                shares.append((limit - (everything - prunable)) / prunable)
            else:
                raise ValueError(
                    f"masks leave shapes as they are, so they cannot meet {condition.metric} "
                    f'{condition.written}: ask for "sparsity" or "params", or prune "channels"'
                )
        return min(shares)


def measure(net: Network, sizes: Sizes | None = None) -> dict[str, float]:
    """Every metric of a network pruned to `sizes`, against its own dense cost.

    Args:
        net: the dense network.
        sizes: axis name → units kept; axes that are not named keep their size.

    Returns:
        Metric → value: macs, params and units (counts), size_mb (10⁶ bytes), speedup, sparsity.
    """
    counted = {metric.count for metric in METRICS.values()}
    counts = {count: (count(net, sizes), count(net)) for count in counted}
    return {name: metric.express(*counts[metric.count]) for name, metric in METRICS.items()}


def _floors(net: Network, floors: Sizes | None) -> Sizes:
    if floors is not None:
        return floors
    return {
        name: min(axis.minimum, axis.size) for name, axis in net.axes.items() if axis.frozen is None
    }


def _condition(metric: str, value: object) -> Condition:
    if metric not in METRICS:
        if metric == "latency":
            raise ValueError(
                'unknown target "latency": it is measured, not counted; ask for macs or speedup'
            )
        raise ValueError(unknown("target", metric, METRICS))
    rule = METRICS[metric]
    amount, percent = _number(metric, value)
    if percent and metric == "sparsity":
        amount, percent = amount / 100, False
    if percent:
        if metric == "speedup" or not 0 < amount <= 100:
            raise ValueError(
                f'target "{metric}": a percentage above 0 and up to 100 of the dense network is '
                f"needed (got {value!r}); {rule.hint}"
            )
        return Condition(metric, amount / 100, share=True)
    above = amount > rule.low if rule.low == 0 and metric != "sparsity" else amount >= rule.low
    if not above or not (amount < rule.high and isfinite(amount)):
        raise ValueError(f'target "{metric}" does not make sense (got {value!r}); {rule.hint}')
    return Condition(metric, amount)


def _number(metric: str, value: object) -> tuple[float, bool]:
    text = value.strip() if isinstance(value, str) else None
    percent = text is not None and text.endswith("%")
    try:
        if isinstance(value, bool):
            raise TypeError
        amount = float(text.removesuffix("%") if text is not None else value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'target "{metric}": expected a number or a percentage (got {value!r}); '
            f"{METRICS[metric].hint}"
        ) from error
    return amount, percent


def show(value: float) -> str:
    """A number of a metric, short enough for a sentence."""
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
