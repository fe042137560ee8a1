"""What rules may know of a network beside its weights: depth, blocks, output dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pruners.solvers.matrix import out_dims

if TYPE_CHECKING:
    from graphs import Network


def depth(net: Network, names: Iterable[str]) -> dict[str, float]:
    """Place of every weight in the forward pass, from 0 (first used) to 1 (last used).

    Weights of one block (see `blocks`) share the mean of their places, so that parallel branches do
    not depend on the order in which they happen to be written.
    """
    listed = list(names)
    uses = first_use(net)
    of_block = blocks(net, listed)
    places: dict[str, list[int]] = {}
    for name in listed:
        places.setdefault(of_block[name], []).append(uses.get(name, 0))
    mean = {block: sum(found) / len(found) for block, found in places.items()}
    order = {place: i for i, place in enumerate(sorted(set(mean.values())))}
    last = max(len(order) - 1, 1)
    return {name: order[mean[of_block[name]]] / last for name in listed}


def first_use(net: Network) -> dict[str, int]:
    """Tensor name → place of the first operation of the forward pass that reads it."""
    uses: dict[str, int] = {}
    for place, node in enumerate(net.program.graph.nodes):
        for operand in node.all_input_nodes:
            if operand.op == "get_attr":
                uses.setdefault(str(operand.target), place)
    return uses


def blocks(net: Network, names: Iterable[str]) -> dict[str, str]:
    """The repeated block a weight belongs to: its name up to the first number, or its module.

    `model.layers.3.mlp.up_proj.weight` is of `model.layers.3`, `layer1.0.conv1.weight` of
    `layer1.0`, and `fc.weight` of `fc`.
    """
    found = {}
    for name in names:
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
        found[name] = ".".join(parts[: numbers[0] + 1] if numbers else parts[:-1])
    return found


STRUCTURE: Mapping[str, Callable[..., dict[str, Any]]] = {
    "depth": depth,
    "blocks": blocks,
    "out_dims": out_dims,
}
"""Evidence that the network itself gives; a rule asks for it by naming it in its signature."""
