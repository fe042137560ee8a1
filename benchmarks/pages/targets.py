"""docs/promise.md: how every pattern meets its target with every rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# The promise of targets

A plan never costs more than what was asked, and within one unit of its pattern below, or it is
refused with what can be reached. Here every pattern meets every budget rule that can divide it, on
{networks} small networks at 30, 50 and 70 %, each plan counted again from what it keeps:
{plans:,} plans, {wrong}. `python -m benchmarks.targets` measures, `make docs` writes this page.

A cell says how many plans kept the promise, at 30, 50 and 70 % each, and how many were refused (r):
targets that are out of reach (2:4 at 70 %, few blocks), patterns that no weight divides, rules that
want class scores of a model without any, and the like.

| pattern | rule | 30 % | 50 % | 70 % |
|---|---|---|---|---|
"""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown.

    Args:
        rows: of `benchmarks.targets`.
    """
    wrong = [row for row in rows if row.get("above") or row.get("short")]
    counted = "none above what was asked or more than a unit below"
    if wrong:
        counted = f"{len(wrong)} of them above what was asked or more than a unit below"
    head = HEAD.format(
        networks=len({row["network"] for row in rows}), plans=len(rows), wrong=counted
    )
    lines = []
    for pattern, rule in dict.fromkeys((row["pattern"], row["rule"]) for row in rows):
        own = [row for row in rows if (row["pattern"], row["rule"]) == (pattern, rule)]
        cells = [_cell([row for row in own if row["share"] == share]) for share in (0.7, 0.5, 0.3)]
        lines.append(f"| `{pattern}` | `{rule}` | {' | '.join(cells)} |")
    refusals = sorted({_short(row["refused"]) for row in rows if "refused" in row})
    said = "\n".join(f"- {sentence}" for sentence in refusals)
    return f"{head}{chr(10).join(lines)}\n\n## What refusals say\n\n{said}\n"


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    refused = sum("refused" in row for row in rows)
    wrong = sum(bool(row.get("above") or row.get("short")) for row in rows)
    text = str(len(rows) - refused - wrong)
    text += f", {refused} r" if refused else ""
    return text + (f", **{wrong} not as promised**" if wrong else "")


def _short(sentence: str) -> str:
    """A refusal without its numbers and names, so that each kind shows once."""
    kind, _, text = sentence.partition(": ")
    words = [word for word in text.split() if not any(c.isdigit() for c in word)]
    return f"{kind}: {' '.join(words)[:110]} …"
