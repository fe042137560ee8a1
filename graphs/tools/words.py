"""Numbers with nouns, in messages and notes."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 layer`, `2 layers`, `1,000 vocabulary entries`.

    Args:
        count: how many.
        noun: for one.
        plural: for all other numbers; None for the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def first_of(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, with "..." where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
