"""Names that differ only in their numbers, said once."""

from __future__ import annotations

import re
from collections.abc import Iterable


def ranges(numbers: Iterable[int]) -> str:
    """`0–4, 7` of 0, 1, 2, 3, 4, 7."""
    parts: list[list[int]] = []
    for n in sorted(set(numbers)):
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}–{p[-1]}" for p in parts)


def numberless(name: str) -> str:
    """A name with its numbers left out: `layers.3.mlp` → `layers.*.mlp`."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)


def folded(names: Iterable[str]) -> list[str]:
    """Names that differ only in numbers, as one: `l.0.mlp`, `l.1.mlp` → `l.0–1.mlp`.

    Several numbers fold only where every combination of them occurs.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(numberless(name), []).append(name)
    return [text for form, group in alike.items() for text in _fold(form, group)]


def _fold(form: str, names: list[str]) -> list[str]:
    split = [name.split(".") for name in names]
    places = [i for i, part in enumerate(form.split(".")) if part == "*"]
    values = [sorted({int(parts[i]) for parts in split}) for i in places]
    combinations = 1
    for options in values:
        combinations *= len(options)
    if combinations != len({tuple(parts) for parts in split}):
        return names
    shown = list(split[0])
    for i, options in zip(places, values, strict=True):
        shown[i] = ranges(options)
        if ", " in shown[i]:
            shown[i] = "{" + shown[i] + "}"
    return [".".join(shown)]
