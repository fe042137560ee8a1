"""Operators that pick positions by number, and routers that compute such numbers."""

from graphs.rules.selection import indexing, picks, routing

__all__ = ["indexing", "picks", "routing"]
