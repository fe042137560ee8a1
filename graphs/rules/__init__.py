"""Operator rules: how every ATen operator relates the dimensions of its operands and its result.

`context` is what a rule sees and states, `registry` holds the rules and what else is known of an
operator. Each room has the rules of one kind: `linear` multiplies and sums, `entries` acts on
entries, `shapes` on shapes alone, `selection` picks by number, `space` acts behind the channels. A
rule of your own is one decorated function in any module: `from graphs.rules import rule`.
"""

from graphs.rules import entries, linear, selection, shapes, space
from graphs.rules.context import Context, Extent, Inverse, Pinned, Value
from graphs.rules.registry import RULES, Rule, known_of, lookup, rule

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
