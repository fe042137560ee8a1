"""Operator rules: how every ATen operator relates the dimensions of its operands and its result.

`registry` holds the rules, what else is known of an operator, and what a rule sees. Each room has
the rules of one kind: `linear` multiplies and sums, `entries` acts on entries, `shapes` on shapes
alone, `selection` picks by number, `space` acts behind the channels. A rule of your own is one
decorated function in any module: `from graphs.rules import rule`.
"""

from graphs.rules import entries, linear, selection, shapes, space
from graphs.rules.registry import (
    RULES,
    Context,
    Extent,
    Inverse,
    Pinned,
    Rule,
    Value,
    known_of,
    lookup,
    rule,
)

__all__ = [
    "RULES",
    "Context",
    "Extent",
    "Inverse",
    "Pinned",
    "Rule",
    "Value",
    "entries",
    "known_of",
    "linear",
    "lookup",
    "rule",
    "selection",
    "shapes",
    "space",
]
