"""The last check before a network is handed out: rules that overlooked an axis cost it its freedom.

Two things no rule may do: let an axis end at an operator that does not sum over it or pick from it,
for then the operator's result has positions that nothing accounts for; and use one axis twice in
one product, whose positions are pairs of units.

Nor is an axis free that a parameter is only cut along, such as the positions of a table beyond
those that were traced: longer inputs need them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping

from torch import fx

from graphs.axes.dims import Atom, Dim, Prod, Sum, all_atoms, atoms
from graphs.rules.context import describe
from graphs.rules.registry import lookup


def overlooked(
    graph: fx.Graph,
    dims: Mapping[str, tuple[Dim, ...]],
    tensors: Mapping[str, tuple[Dim, ...]],
) -> dict[str, str]:
    """Axes to freeze → why.

    Args:
        graph: the traced calls.
        dims: node name → dimensions of its results.
        tensors: tensor name → dimensions.
    """
    found: dict[str, str] = {}
    for every in tensors.values():
        for dim in every:
            for axis in _squared(dim):
                found.setdefault(axis, "an axis meets itself in one dimension")
    carried: dict[fx.Node, frozenset[str]] = {}
    # Parameters, and what follows from them alone.
    still: set[fx.Node] = set()
    read: set[str] = set()
    used: set[str] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            carried[node] = all_atoms(tensors.get(str(node.target), ()))
            read |= carried[node]
            still.add(node)
        if node.op != "call_function" or node.name not in dims:
            continue
        carried[node] = all_atoms(dims[node.name])
        rule, given = lookup(node.target), node.all_input_nodes
        met = carried[node].union(*(carried.get(source, ()) for source in given))
        if not still.issuperset(given):
            used |= met
        else:
            still.add(node)
            if node.target is not operator.getitem and not (rule and rule.picks):
                used |= met - carried[node]  # summed over, as in a product of two weights
        if rule is None or rule.ends:
            continue
        for source in given:
            for axis in carried.get(source, frozenset()) - carried[node]:
                found.setdefault(
                    axis, f"the rule does not say what becomes of it: {describe(node)}"
                )
    for axis in read - used:
        found.setdefault(axis, "the traced forward cuts it away")
    return found


def _squared(dim: Dim) -> Iterable[str]:
    """Axes that occur in two factors of one product."""
    if isinstance(dim, Sum):
        for term in dim.terms:
            if not isinstance(term, Atom):
                yield from _squared(term)
    elif isinstance(dim, Prod):
        seen: set[str] = set()
        for factor in dim.factors:
            yield from seen.intersection(atoms(factor))
            seen.update(atoms(factor))
            yield from _squared(factor)
