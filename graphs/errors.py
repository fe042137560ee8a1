"""Errors of the graph layer, each saying what was wrong, where, and what to do."""

from __future__ import annotations


class TraceError(RuntimeError):
    """A model could not be turned into a graph."""


class FrozenAxisError(ValueError):
    """An axis that must be left alone was asked to change."""
