"""Values read from JSON documents: of one format, with every key known and none missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from graphs.tools.documents import parse_json

T = TypeVar("T")


def read(text: str, what: str, format: int, remedy: str) -> dict[str, Any]:
    """The content of a document.

    Args:
        text: JSON.
        what: the document in words: "a report".
        format: the number that its key "format" must have.
        remedy: what to do about a document of another format.

    Raises:
        ValueError: not JSON, or of another format.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not valid JSON, and so not {what} ({error})") from error
    if not isinstance(content, dict) or content.get("format") != format:
        raise ValueError(f"not {what} of format {format}; {remedy}")
    return content


def build(cls: type[T], content: Mapping[str, Any], what: str) -> T:
    """A dataclass from a mapping; lists become tuples.

    Args:
        cls: the dataclass.
        content: field → value.
        what: the document in words: "a report".

    Raises:
        ValueError: a field that there is not, or a missing one.
    """
    unknown = sorted(set(content) - {entry.name for entry in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{cls.__name__} in {what} has no {unknown[0]!r}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__} in {what} is incomplete: {error}") from error


def build_all(cls: type[T], contents: Any, what: str) -> tuple[T, ...]:
    """A tuple of dataclasses from a list of mappings, or from nothing; see `build`."""
    return tuple(build(cls, content, what) for content in contents or ())
