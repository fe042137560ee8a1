"""Plans that drop whole residual branches."""

from __future__ import annotations

from graphs import Network
from graphs.depth.drop import count_without
from metaprune.calibration import Calibration
from metaprune.results.provenance import versions
from pruners import Plan, Target, fingerprint, units
from pruners.plan import BLOCKS
from pruners.statistics import Imitation
from pruners.targets import METRICS

IMITATION = "imitation"
"""The budget of blocks: how far the network without one is from the dense network."""


def plan_blocks(net: Network, target: Target, solver: str, calibration: Calibration | None) -> Plan:
    """A plan that drops the residual branches the network misses least.

    Args:
        net: the dense network.
        target: what it may cost.
        solver: noted in the plan.
        calibration: batches on which the networks are compared.

    Raises:
        UnreachableTargetError: not even the network without any block meets the target.
        ValueError: no calibration, or no blocks.
    """
    if calibration is None:
        raise ValueError(
            f'pattern "{BLOCKS}" measures what the network misses: pass `calibration` or `data`'
        )
    loss = Imitation(net.to_model(), calibration.model_inputs)
    drops = units.choose_blocks(net, target, loss.value)
    return Plan(
        pattern=BLOCKS,
        solver=solver,
        budget=IMITATION,
        asked=target.asked,
        dropped=drops.names,
        achieved=_measured(net, count_without(net, drops.names)),
        provenance={
            "versions": versions(),
            "fingerprints": fingerprint(net),
            "divergence": dict(zip(drops.names, drops.damage, strict=True)),
        },
    )


def _measured(net: Network, small: Network) -> dict[str, float]:
    """Every metric of a network against that of the dense one."""
    return {
        name: metric.express(metric.count(small), metric.count(net))
        for name, metric in METRICS.items()
    }
