"""Which values turn by M and which by M⁻ᵀ: a union–find whose sets know who is on which side."""

from __future__ import annotations


class Parity:
    """Two sides of every set; a contradiction says that M⁻ᵀ must be M: M is orthogonal.

    Attributes:
        contradicted: whether something had to be on both sides.
    """

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.side: list[bool] = []  # against the parent
        self.contradicted = False

    def fresh(self) -> int:
        """A new value, on a side of its own choice."""
        self.parent.append(len(self.parent))
        self.side.append(False)
        return self.parent[-1]

    def find(self, value: int) -> tuple[int, bool]:
        """(a value that stands for the set, whether `value` is on the other side of it)."""
        parent = self.parent[value]
        if parent == value:
            return value, False
        root, flipped = self.find(parent)
        self.parent[value], self.side[value] = root, self.side[value] ^ flipped
        return root, self.side[value]

    def relate(self, a: int, b: int, *, opposite: bool = False) -> None:
        """State that two values are on the same side, or on opposite ones."""
        (first, p), (second, q) = self.find(a), self.find(b)
        if first == second:
            self.contradicted |= (p ^ q) is not opposite
            return
        self.parent[second], self.side[second] = first, p ^ q ^ opposite
