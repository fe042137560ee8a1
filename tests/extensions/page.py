"""The worked examples of `docs/architecture.md`, one module for each kind of extension."""

from __future__ import annotations

import re

from metaprune.packages import HOME

PAGE = HOME / "docs" / "architecture.md"
EXAMPLE = re.compile(
    r"^### An? (?P<kind>[^\n]+)\n(?P<text>.*?)^```python\n(?P<code>.*?)^```", re.M | re.S
)


def examples() -> dict[str, str]:
    """Kind of extension → the code that stands below its heading."""
    text = PAGE.read_text(encoding="utf-8")
    return {found["kind"]: found["code"] for found in EXAMPLE.finditer(text)}
