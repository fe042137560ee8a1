"""What an annotation takes, in words for people: `float | None` is "a number or null"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

WORDS: Mapping[Any, str] = {
    Any: "anything",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "null",
}


def words(annotation: Any) -> str:
    """What an annotation takes, in words.

    Args:
        annotation: resolved, as `typing.get_type_hints` gives it.

    Returns:
        A phrase for the place after "takes": "a list (each a whole number) or null".
    """
    if annotation in WORDS:
        return WORDS[annotation]
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        return words(inner[0])
    if is_union(annotation):
        return " or ".join(words(part) for part in sorted(inner, key=lambda part: part is NoneType))
    if kind is Literal:
        return f"one of {', '.join(_quoted(choice) for choice in inner)}"
    if not isinstance(kind, type):
        return str(annotation)
    if issubclass(kind, Enum):
        return f"one of {', '.join(_quoted(member.value) for member in kind)}"
    if is_dataclass(kind):
        return f"a mapping of settings ({kind.__name__})"
    if issubclass(kind, Mapping):
        return "a mapping" + (f" (each value {words(inner[1])})" if _tells(inner[1:]) else "")
    if kind is tuple and inner and inner[-1] is not ...:
        return f"a list of {len(inner)} ({', '.join(words(part) for part in inner)})"
    if issubclass(kind, Sequence):
        return "a list" + (f" (each {words(inner[0])})" if _tells(inner[:1]) else "")
    return f"a {kind.__name__}"


def is_union(annotation: Any) -> bool:
    """Whether an annotation is a choice between others: `A | B`, `Optional[A]`."""
    return get_origin(annotation) in (Union, UnionType)


def _tells(inner: Sequence[Any]) -> bool:
    return bool(inner) and inner[0] is not Any


def _quoted(choice: object) -> str:
    return f'"{choice}"' if isinstance(choice, str) else str(choice)
