"""Colours of the report: names that the page's style sheet gives values, in light and in dark."""

from __future__ import annotations

INK, MUTED, RULE, PAPER = "var(--ink)", "var(--muted)", "var(--rule)", "var(--paper)"

SERIES = 6
"""Number of colours for methods; more methods than this repeat them."""


def series(index: int) -> str:
    """Colour of the method with this index."""
    return f"var(--series-{index % SERIES})"
