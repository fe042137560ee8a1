"""Which axes may be turned by matrices, and why the others may not."""

from __future__ import annotations

from graphs import Network
from graphs.symmetries.members import dimension
from metaprune.inspection.facts.left_alone import by_reason
from metaprune.inspection.schema import Alone, Turning


def turning(net: Network) -> tuple[tuple[Turning, ...], tuple[Alone, ...]]:
    """The axes with a group of matrices, and by reason those free axes that have none."""
    free = [
        (net.axes[name], s) for name, s in net.symmetries().items() if not net.axes[name].frozen
    ]
    found = tuple(
        Turning(
            axis=axis.name,
            units=axis.size,
            kind=axis.kind,
            group=s.group,
            keeps_ones=s.keeps_ones,
            per=net.axes[s.per].size if s.per else 1,
            per_kind=net.axes[s.per].kind if s.per else "",
            freedom=dimension(net, s),
            folds=len(s.folds),
            unties=tuple(u.name for u in s.unties),
            params_added=sum(u.parameters for u in s.unties),
        )
        for axis, s in free
        if s.turns
    )
    blocked = by_reason((axis.name, s.blocked) for axis, s in free if not s.turns)
    return found, blocked
