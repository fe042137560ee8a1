"""Operators on entries: one by one, normalised, reduced along a dimension, transformed."""

from graphs.rules.entries import elementwise, norms, reductions, spectral

__all__ = ["elementwise", "norms", "reductions", "spectral"]
