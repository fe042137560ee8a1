"""What the options of the rule may be, and what a large network is."""

from __future__ import annotations

SMALL = 1 << 22
"""Beyond so many weights altogether a network is large: curves of masks are drawn with a faster
solver than the one asked, and nothing is tried that is not asked for."""

MOST = 16
"""Rounds or shots: each measures and solves the network anew, and more than a few gain nothing."""


def check_number(option: str, given: int | None) -> None:
    """Refuse a number of rounds or shots that is none.

    Raises:
        ValueError: neither None nor a whole number from 1 to `MOST`.
    """
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST:
        raise ValueError(f"{option} takes a whole number from 1 to {MOST} (got {given!r})")


def check_evaluations(given: int | None) -> None:
    """Refuse a number of evaluations that is none.

    Raises:
        ValueError: neither None nor a whole number from 0 on.
    """
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"evaluations takes a whole number from 0 on (got {given!r})")
