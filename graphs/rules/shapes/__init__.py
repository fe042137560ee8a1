"""Operators on shapes alone: positions regrouped, cut, joined, repeated or made."""

from graphs.rules.shapes import creation, joins, repeats, views

__all__ = ["creation", "joins", "repeats", "views"]
