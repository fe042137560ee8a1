"""Parameters and multiply–accumulates as functions of the axis sizes.

Both are sums of products of axis sizes, so the cost of a hypothetical pruning needs no new network.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphs.relate.structure import Structure


def sizes_of(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Number of units of every axis, where `sizes` has another number that one."""
    return {name: axis.size for name, axis in net.axes.items()} | dict(sizes or {})


def count_macs(net: Structure, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply–accumulates of one example through linear maps, convolutions and attention.

    Args:
        net: the network; for sequences the traced length counts.
        sizes: axis name → number of units, where it differs from the network's own.
    """
    return sum(macs_per_node(net, sizes).values())


def macs_per_node(net: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Multiply–accumulates of one example by module path (by node where no module is known)."""
    current = sizes_of(net, sizes)
    totals: dict[str, int] = {}
    for where, product in net.program.work:
        totals[where] = totals.get(where, 0) + product.count(current)
    return {where: n // net.program.batch for where, n in totals.items()}


def count_params(net: Structure, sizes: Mapping[str, int] | None = None) -> int:
    """Numbers in the parameters (buffers excluded), tied ones once."""
    current = sizes_of(net, sizes)
    return sum(net.extents[name].count(current) for name in net.source.parameters)
