"""What a drawing of a network is made of: layers, and the axes that join them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Lane:
    """An axis: number of units, what they are, whether it is left alone, and a sentence on it."""

    size: int
    kind: str
    frozen: bool
    words: str


@dataclass(frozen=True)
class Stop:
    """A layer, or one that stands for several that are alike.

    Args:
        label: its name; numbers of blocks that repeat as a range.
        title: a sentence, shown when pointed at.
        reads, writes: names of lanes.
        members: places of the layers that it stands for, in the order of the forward.
        alike: what else two layers must share to be alike (operator, costs).
        block: the block that repeats it, outermost; "" outside of one.
    """

    label: str
    title: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    members: tuple[int, ...]
    alike: Hashable = None
    block: str = ""

    @property
    def times(self) -> int:
        """How many layers it stands for."""
        return len(self.members)


@dataclass(frozen=True)
class Column:
    """What stands beside every layer.

    Args:
        head: its title.
        width: in pixels.
        draw: (stop, x of its left side, y of the row's middle) → SVG elements.
    """

    head: str
    width: float
    draw: Callable[[Stop, float, float], str]
