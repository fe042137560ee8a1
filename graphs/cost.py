"""Parameters and multiply–accumulates as functions of the axis sizes.

Both are sums of products of axis sizes, so the cost of a hypothetical pruning needs no new network.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from graphs.dims import size
from graphs.network import Network


def _sizes(net: Network, sizes: Mapping[str, int] | None) -> dict[str, int]:
    current = {name: axis.size for name, axis in net.axes.items()}
    current.update(sizes or {})
    return current


def count_macs(net: Network, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply–accumulates of one example through linear maps, convolutions and attention.

    Args:
        net: the network; for sequences the traced length counts.
        sizes: axis name → number of units, where it differs from the network's own.
    """
    return sum(macs_per_node(net, sizes).values())


def macs_per_node(net: Network, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Multiply–accumulates of one example by module path (by node where no module is known)."""
    current = _sizes(net, sizes)
    totals: dict[str, int] = {}
    for cost in net.program.costs:
        where = cost.module or cost.node
        totals[where] = totals.get(where, 0) + prod(size(d, current) for d in cost.dims)
    return {where: n // net.program.batch for where, n in totals.items()}


def count_params(net: Network, sizes: Mapping[str, int] | None = None) -> int:
    """Numbers in the parameters (buffers excluded), tied ones once."""
    current = _sizes(net, sizes)
    return sum(
        prod(size(d, current) for d in net.tensors[name].dims) for name in net.source.parameters
    )
