"""Arguments of fx nodes: nested in lists, tuples and dicts only, so no pytree is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NESTED = (list, tuple, dict)


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """`value` with every leaf replaced by what `function` makes of it; lists become plain lists."""
    if not isinstance(value, _NESTED):
        return function(value)
    if isinstance(value, list):
        return [mapped(function, entry) for entry in value]
    if isinstance(value, tuple):
        return tuple([mapped(function, entry) for entry in value])
    return {key: mapped(function, entry) for key, entry in value.items()}


def leaves(value: Any) -> list[Any]:
    """The leaves of `value`, in order."""
    found: list[Any] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[Any]) -> None:
    if not isinstance(value, _NESTED):
        found.append(value)
        return
    for entry in value.values() if isinstance(value, dict) else value:
        _gather(entry, found)
