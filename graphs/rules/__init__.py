"""Operator rules: how every ATen operator relates the dimensions of its operands and its result."""

from graphs.rules import (
    contractions,
    creation,
    elementwise,
    norms,
    pooling,
    reductions,
    routing,
    selection,
    shapes,
)
from graphs.rules.registry import RULES, Context, Extent, Inverse, Pinned, Value, lookup, rule

__all__ = [
    "RULES",
    "Context",
    "Extent",
    "Inverse",
    "Pinned",
    "Value",
    "contractions",
    "creation",
    "elementwise",
    "lookup",
    "norms",
    "pooling",
    "reductions",
    "routing",
    "rule",
    "selection",
    "shapes",
]
