"""Why axes are left alone, or not turned: operator, places in the model's code, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable

from graphs import Axis
from metaprune.inspection.schema import Alone

_AT_OPERATOR = re.compile(r"^(?P<why>.*?) ?\(?(?P<op>[\w.]+\.\w+) at (?P<place>.+:\d+)\)?$")
_INPUT = re.compile(r"^input '(?P<name>.*)'$")

_RULE = "a rule for the operator: one function in graphs/rules, one test"

REMEDIES = {
    "no rule for the operator": _RULE,
    "it is what the result of an operator": _RULE,
    "a slice cuts through units": "weights of their own for the parts of the slice",
    "a split cuts through units": "weights of their own for the parts of the split",
    "has nowhere to go": "biases, of zeros, for the weights that have none",
    "is shared by norms with other shifts": "a scale of its own for each norm (`net.untie`)",
    "is shared by scales before and behind": "a scale of its own for each of them (`net.untie`)",
    "in one place, and in another it does not": "a weight of its own for each place",
    "is not saved with the model": "a buffer that is (`persistent=True`)",
    "it is written to in place": "the same operator, not in place",
}
"""Part of a reason → what would free its axes. The other reasons lie in the network itself."""


def left_alone(axes: Iterable[Axis]) -> tuple[Alone, ...]:
    """Frozen axes together with their reason, the reasons with most axes first."""
    return by_reason((axis.name, axis.frozen) for axis in axes if axis.frozen is not None)


def by_reason(pairs: Iterable[tuple[str, str]]) -> tuple[Alone, ...]:
    """Axes together with their reason, the reasons with most axes first.

    Args:
        pairs: (name of an axis, reason as the graph layer gives it).
    """
    found: dict[tuple[str, str | None], dict[str, dict[str, None]]] = {}
    for axis, why in pairs:
        reason, operator, place = parse(why)
        entry = found.setdefault((reason, operator), {"axes": {}, "places": {}})
        entry["axes"][axis] = None
        if place:
            entry["places"][place] = None
    entries = [
        Alone(reason, operator, tuple(e["places"]), tuple(e["axes"]), _remedy(reason))
        for (reason, operator), e in found.items()
    ]
    return tuple(sorted(entries, key=lambda one: -len(one.axes)))


def parse(reason: str) -> tuple[str, str | None, str | None]:
    """A reason as the graph layer gives it, as (why, operator, "file:line")."""
    at = _AT_OPERATOR.match(reason)
    if at:
        why = at["why"].strip().rstrip(":")
        why = "it is what the result of an operator runs along" if why == "result of" else why
        return why, at["op"], at["place"]
    given = _INPUT.match(reason)
    if given:
        return f"it is what the input {given['name']!r} runs along", None, None
    if reason == "output of the model":
        return "it is what the output of the model runs along", None, None
    return reason, None, None


def _remedy(reason: str) -> str:
    return next((text for part, text in REMEDIES.items() if part in reason), "")
