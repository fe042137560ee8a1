"""Operators that multiply and sum: linear maps, convolutions, attention, recurrence, matrices."""

from graphs.rules.linear import contractions, matrices, products, recurrent

__all__ = ["contractions", "matrices", "products", "recurrent"]
