"""Markdown tables of what was measured: means and deviations over seeds, geometric means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.expected_loss.cells import DENSE
from benchmarks.expected_loss.suites import SUITES

Line = Mapping[str, Any]


def of(benchmark: str, lines: Sequence[Line], recorded: Path | None = None) -> str:
    """All tables of a benchmark; what was measured twice counts as measured last.

    Args:
        benchmark: of `SUITES`.
        lines: of its records.
        recorded: rows {member, share, rule, kl} of other measurements, for the zoo.
    """
    last = {_key(line): line for line in lines}
    rows = [line for line in last.values() if "figures" in line]
    if not rows:
        return f"## {benchmark}\n\nNothing is measured.\n"
    if benchmark == "zoo":
        return f"## {benchmark}\n\n{families(rows, recorded)}"
    figure = SUITES[benchmark].figure
    parts = [f"## {benchmark}: {figure}, CPU seconds\n"]
    groups = [(r["model"], r["pattern"], r["examples"]) for r in rows if r["pattern"] != DENSE]
    for model, pattern, examples in dict.fromkeys(groups):
        chosen = [
            r
            for r in rows
            if (r["model"], r["pattern"], r["examples"]) == (model, pattern, examples)
        ]
        whole = [r for r in rows if r["model"] == model and r["pattern"] == DENSE]
        at = f" (dense {whole[-1]['figures'][figure]:.2f})" if whole else ""
        parts.append(f"{model}{at}, {pattern}, {examples} examples\n")
        parts.append(_targets(chosen, figure))
    return "\n".join(parts)


def _key(line: Line) -> str:
    names = ("benchmark", "model", "pattern", "target", "examples", "rule", "seed")
    return json.dumps([line[name] for name in names])


def _targets(rows: Sequence[Line], figure: str) -> str:
    """Rules down, targets across, and the seconds of planning and applying."""
    targets = list(dict.fromkeys(json.dumps(r["target"]) for r in rows))
    header = ["rule", *(_written(json.loads(t)) for t in targets), "plan", "apply"]
    body = []
    for rule in dict.fromkeys(r["rule"] for r in rows):
        mine = [r for r in rows if r["rule"] == rule]
        cells = [
            spread([r["figures"][figure] for r in mine if json.dumps(r["target"]) == t])
            for t in targets
        ]
        times = [f"{mean(r['seconds'][what] for r in mine):.1f}" for what in ("plan", "apply")]
        body.append([rule, *cells, *times])
    return markdown(header, body)


def _written(target: Mapping[str, Any]) -> str:
    return ", ".join(f"{metric} {amount}" for metric, amount in target.items()) or "no choice"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; empty for none."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def families(rows: Sequence[Line], recorded: Path | None = None) -> str:
    """Geometric means of the divergence by family of the zoo, over both targets and for each.

    Args:
        rows: of the zoo.
        recorded: rows {member, share, rule, kl}, which stand beside with "recorded" in their name.
    """
    cases: dict[tuple[str, str, str], list[float]] = {}
    for rule, member, share, kl in [*_own(rows), *_recorded(recorded)]:
        family = member.split("/")[-1].split("-")[0]
        for column in ("both", share):
            cases.setdefault((rule, family, column), []).append(kl)
    names = sorted({family for _, family, _ in cases})
    shares = sorted({column for *_, column in cases} - {"both"}, reverse=True)
    parts = []
    for column in ("both", *shares):
        body = [
            [rule, *(_geometric(cases.get((rule, family, column), [])) for family in names)]
            for rule in dict.fromkeys(rule for rule, *_ in cases)
        ]
        title = "both targets" if column == "both" else f"{column} of the MACs"
        head = f"KL after the refit, geometric means (cases), {title}\n\n"
        parts.append(head + markdown(["rule", *names], body))
    return "\n".join(parts)


def _own(rows: Iterable[Line]) -> Iterable[tuple[str, str, str, float]]:
    for row in rows:
        if row["pattern"] != DENSE:
            yield row["rule"], row["model"], row["target"]["macs"], row["figures"]["kl"]


def _recorded(path: Path | None) -> Iterable[tuple[str, str, str, float]]:
    for text in [] if path is None else path.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        yield f"{row['rule']} (recorded)", row["member"], f"{100 * row['share']:g}%", row["kl"]


def _geometric(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{exp(mean(log(max(value, 1e-12)) for value in values)):.3f} ({len(values)})"


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
