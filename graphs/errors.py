"""Errors of the graph layer, each saying what was wrong, where, and what to do."""

from __future__ import annotations

from graphs.places import Place


class TraceError(RuntimeError):
    """A model could not be turned into a graph.

    Args:
        what: what was wrong, a sentence without its full stop.
        place: the line of the user's code that it comes from.
        remedy: what to do, one or two sentences.
    """

    def __init__(self, what: str, *, place: Place | None = None, remedy: str = "") -> None:
        self.what, self.place, self.remedy = what, place, remedy
        parts = [what]
        if place is not None:
            parts.append(f" (at {place}{f': `{place.code}`' if place.code else ''})")
        if remedy:
            parts.append(f". {remedy}")
        super().__init__("".join(parts))


class FrozenAxisError(ValueError):
    """An axis that must be left alone was asked to change."""
