"""The law of matrices: turning an axis by a random member of its group leaves the function."""

from __future__ import annotations

from collections.abc import Sequence

from graphs import Axis, Network
from graphs.symmetries.members import dimension, random_member
from metaprune.testing.checking import Checked, explain, gap, search
from metaprune.testing.subject import Subject


def matrix_law(subject: Subject, tolerance: float) -> tuple[Checked, dict[str, int]]:
    """Turn every axis that a group of matrices acts on, all at once; the function must stay.

    Norms are folded and ties undone first, where the group asks for that.

    Returns:
        What was found, and the dimension of the groups by kind of axis.
    """
    net = subject.net
    known = {name: found for name, found in net.symmetries().items() if found.turns}
    sizes: dict[str, int] = {}
    for name, found in known.items():
        kind = net.axes[name].kind
        sizes[kind] = sizes.get(kind, 0) + dimension(net, found)
    if not known:
        return Checked(0.0, 0), sizes
    expected = subject.function(net)

    def deviation(axes: Sequence[Axis]) -> float:
        moved = net
        for axis in axes:
            moved = turned_at_random(moved, axis.name, subject)
        return gap(expected, subject.function(moved))

    def sentence(culprits: Sequence[Axis], by: float) -> str:
        hint = "an operator on the way that tells the units of a turned vector apart"
        return explain(net, culprits, "turning", f"changed the output by {by:.3g}", None, hint)

    axes: list[Axis] = [net.axes[name] for name in known]
    return search(iter([axes]), deviation, tolerance, sentence), sizes


def turned_at_random(net: Network, axis: str, subject: Subject) -> Network:
    """The network with an axis turned by a random member, once what is in its way is folded."""
    found = net.symmetry(axis)
    if found.unties:
        net = net.untie(axis)
    if found.folds:
        net = net.fold_norms(axis)
    found = net.symmetry(axis)
    return net.rotate(axis, random_member(net, found, subject.generator))
