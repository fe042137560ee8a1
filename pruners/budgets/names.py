"""Budgets as people write them: a rule, a rule with options, or values by name and pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def named(budget: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The rule that a budget names, and its options.

        "price"                                   a rule
        {"rule": "search", "evaluations": 400}    a rule with options
        {"fc": 0.9, "layer3.*": 0.2}              kept shares by name or pattern: rule "manual"

    Raises:
        ValueError: an empty mapping.
    """
    if isinstance(budget, str):
        return budget, {}
    if not budget:
        raise ValueError(
            'the budget is empty: name a rule, such as "lamp", or give kept shares by name'
        )
    rule = budget.get("rule")
    if isinstance(rule, str):
        return rule, {key: value for key, value in budget.items() if key != "rule"}
    return "manual", {"values": dict(budget)}


def assigned(values: Mapping[str, float], names: Iterable[str], what: str) -> dict[str, float]:
    """The value of every name that an entry covers: exact names first, then patterns in order.

    Raises:
        ValueError: an entry that covers nothing, or a value that is not a number.
    """
    listed = list(names)
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f'the budget of "{key}" must be a number (got {value!r})')
        matched = [key] if key in listed else [n for n in listed if fnmatchcase(n, key)]
        if not matched:
            near = ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")
            raise ValueError(
                f'"{key}" of the budget is neither the name of a {what} nor a pattern that matches '
                f"one: expected names such as {near}"
            )
        for name in matched:
            if name == key or (name not in found and name not in values):
                found[name] = value
    return found
