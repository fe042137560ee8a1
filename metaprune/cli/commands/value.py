"""`metaprune train 'triples=[...]'`: fit a value of budgets, and judge it family by family."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import metanet
from graphs.tools.files import write_text
from graphs.tools.words import counted
from metaprune.cli.config import run_folder, typed_command
from metaprune.report.pages.training import page
from metaprune.results.provenance import machine, today, versions
from training.config import from_mapping
from training.triples import triples
from training.values import ValueConfig, fit_value, known_of, left_out_families
from training.values.judge import Standing, geometric_mean


def run(
    folder: str,
    zoos: Sequence[str],
    found: Sequence[str],
    value: Mapping[str, Any],
    content: Mapping[str, Any],
) -> None:
    """Fit; the folder gets `metanet.safetensors`, `training.json`, a page and a card.

    Args:
        folder: where they go.
        zoos: folders of the networks.
        found: folders of triples.
        value: settings of `ValueConfig`.
        content: all settings, which are recorded.
    """
    started, console = time.perf_counter(), Console()
    config = from_mapping(ValueConfig, value, "value")
    measured = triples(found)
    cases = known_of(
        zoos, measured, lambda done, of: console.print(f"facts of {done} of {of} networks")
    )
    if idle := len(measured) - len(cases):
        console.print(
            f"passed over: {counted(idle, 'case')} of masks, or of networks that most budgets do "
            "no damage to"
        )
    run_folder(content)
    families = sorted({case.family for case in cases})
    standings = left_out_families(cases, config) if len(families) > 1 else []
    network = fit_value(cases, config)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    metanet.save(network, place / "metanet.safetensors")
    seconds = round(time.perf_counter() - started, 1)
    networks = sorted({case.triples.member for case in cases})
    budgets = sum(len(case.triples.damage) for case in cases)
    record = {
        "title": f"A value of budgets, fitted to {counted(len(networks), 'network')}",
        "command": typed_command(),
        "date": today(),
        "figures": {
            "networks": len(networks),
            "cases": len(cases),
            "budgets": budgets,
            "minutes": round(seconds / 60, 1),
        },
        "base": "the least sum of expected losses",
        "comparisons": compared(standings),
        "standings": [vars(one) for one in standings],
        "networks": networks,
        "passed_over": idle,
        "budgets": budgets,
        "data": sorted({str(case.triples.record["data"]) for case in cases}),
        "seconds": seconds,
        "versions": versions(),
        "machine": machine(),
        "config": dict(content),
    }
    write_text(place / "training.json", json.dumps(record, indent=2) + "\n")
    write_text(place / "training.html", page(record))
    write_text(place / "README.md", card(record, standings))
    console.print(f"{table(standings)}\nmetanetwork: {place / 'metanet.safetensors'}")


def compared(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Damages on families left out by that of the least sum, as `training.json` holds them."""
    return [
        {
            "network": one.member,
            "family": one.family,
            "pattern": "channels",
            "target": one.target,
            "rule": rule,
            "damage": damage,
        }
        for one in standings
        for rule, damage in {
            **one.rules, "this value": one.picked, "best of all measured": one.best
        }.items()
    ]  # fmt: skip


def table(standings: Sequence[Standing]) -> str:
    """What families that were left out say, as Markdown; empty for none."""
    if not standings:
        return ""
    lines = [
        "| family left out | cases | rank correlation | of the sum | best foreseen | best of all |",
        "|---|---|---|---|---|---|",
    ]
    for family in sorted({one.family for one in standings}):
        mine = [one for one in standings if one.family == family]
        means = [
            sum(getattr(one, name) for one in mine) / len(mine)
            for name in ("correlation", "of_sum")
        ]
        shares = [geometric_mean([getattr(one, n) for one in mine]) for n in ("picked", "best")]
        cells = [family, str(len(mine)), *(f"{number:.3f}" for number in (*means, *shares))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def card(record: Mapping[str, Any], standings: Sequence[Standing]) -> str:
    """What the value is, for a person who finds the file."""
    judged = f"""
Each family left out in turn: rank correlation of foreseen and measured damage beside that of the
sum of expected losses; damage of the budget that was foreseen to be the best of those measured, and
of the one that is, as shares of the damage of the least sum (geometric means).

{table(standings)}
"""
    return f"""# A value of budgets

It foresees the damage that a budget of widths does, from expected losses and facts of the axes.
Fitted to {record["budgets"]} budgets of {len(record["networks"])} networks.
{judged if standings else ""}
Networks: {", ".join(record["networks"])}.
"""
