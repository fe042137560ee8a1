"""Configuration stops at the door: mappings become typed values, unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any]) -> T:
    """Build a configuration dataclass from a mapping, such as a composed YAML file.

    Raises:
        ValueError: if a key is no field of the class, naming the ones that are.
    """
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    unknown = [str(key) for key in mapping if key not in known]
    if unknown:
        raise ValueError(
            f"unknown key {', '.join(map(repr, unknown))} in {cls.__name__}; "
            f"known: {', '.join(known)}"
        )
    return cls(**mapping)


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless a setting has one of the allowed values."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)} (got {value!r})")
