"""How good a metanetwork became: families × patterns × targets × rules, and the way there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.plots import BY_THEME, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST = 1e-12
"""Below every ratio of damages, so that a rule without any has a geometric mean."""


def page(record: Mapping[str, Any]) -> str:
    """The page, a function of `training.json` alone.

    Args:
        record: with "comparisons" (network, family, pattern, target, rule, and its damage by that
            of the rule "base"), "base", "history", "networks", "seconds", "config", "versions".
    """
    compared = record["comparisons"]
    rules = list(dict.fromkeys(one["rule"] for one in compared))
    return markup.whole_page(
        "training.html",
        maker="metaprune train",
        title=record["title"],
        made_by=record.get("command"),
        when=record.get("date"),
        tiles=[(name, _figure(value)) for name, value in record["figures"].items()],
        base=record["base"],
        head=("family", "pattern", "target", "networks", *rules),
        rows=[*cells(compared, rules), *_whole(compared, rules)],
        history=_history(record.get("history") or ()),
        provenance={name: record[name] for name in ("versions", "machine") if name in record},
        config=json.dumps(record["config"], indent=2, ensure_ascii=False),
    )


def _figure(value: object) -> str:
    return words.count(value) if isinstance(value, int | float) else str(value)


def cells(compared: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> list[markup.Row]:
    """A row for every family, pattern and target: the geometric mean of every rule's damage."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in compared:
        groups.setdefault((one["family"], one["pattern"], one["target"]), []).append(one)
    rows, previous = [], None
    for key, found in sorted(groups.items()):
        kinds = "first" if key[0] != previous else ""
        previous = key[0]
        rows.append(markup.Row((*key, *_means(found, rules)), kinds))
    return rows


def _whole(compared: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> list[markup.Row]:
    if not compared:
        return []
    return [markup.Row(("all", "", "", *_means(compared, rules)), "first best")]


def _means(found: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> list[str]:
    """How many networks, and each rule's mean; "-" for a rule that none of them has."""
    networks = len({one["network"] for one in found})
    cells = []
    for rule in rules:
        values = [max(one["damage"], SMALLEST) for one in found if one["rule"] == rule]
        cells.append(f"{geometric_mean(values):.3f}" if values else "-")
    return [str(networks), *cells]


def _history(history: Sequence[Mapping[str, float]]) -> Markup | None:
    """Judgements on held-out networks by step; None where there are none."""
    if not history:
        return None

    def draw(axes: Axes) -> None:
        steps = [one["step"] for one in history]
        for index, name in enumerate(("advised", "base")):
            axes.plot(
                steps, [one[name] for one in history], "o-", label=name, markersize=4,
                color=BY_THEME[theme.series(index) if index == 0 else theme.MUTED],
            )  # fmt: skip
        axes.set_xlabel("step")
        axes.set_ylabel("divergence on held-out networks")
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=9)

    return plot(draw, "divergence on held-out networks by step")
