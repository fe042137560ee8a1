"""What budgets were expected to lose, layer by layer, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metaprune.report import markup, theme, words
from metaprune.report.plots import BY_THEME, plot
from metaprune.report.schema import Entry, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 12
"""Layers that are listed, those that are expected to lose most."""


def expected(report: Report) -> Markup:
    """A table, and for the first pruned network its curves; a sentence where there are none."""
    entries = [entry for entry in report.entries if entry.expected]
    if not entries:
        return markup.render("sections/expected.html", rows=[])
    first = entries[0]
    losses = {name: layer["loss"] for name, layer in first.expected["layers"].items()}
    most = sorted(losses, key=lambda name: -losses[name])[:MOST]
    return markup.render(
        "sections/expected.html",
        rows=[_row(entry, "total") for entry in entries],
        curves=curves(first.expected["layers"]),
        asked=words.asked(first.asked),
        layers=[
            markup.Row(
                (name, f"{first.expected['layers'][name]['kept']:.4g}", f"{losses[name]:.3g}")
            )
            for name in most
        ],
        # Apart from what was expected: on one line the two would look like one scale.
        lost=[_row(entry, "lost") for entry in entries if entry.expected.get("lost") is not None],
    )


def _row(entry: Entry, name: str) -> markup.Row:
    return markup.Row((entry.method, words.asked(entry.asked), f"{entry.expected[name]:.3g}"))


def curves(layers: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Every layer's expected loss by the share that stays, as an SVG element.

    Args:
        layers: name → {"curve": {"kept", "losses"}}, with "kept" and "loss" where it was chosen.
    """
    return plot(lambda axes: _draw(axes, layers), "expected loss by what stays")


def _draw(axes: Axes, layers: Mapping[str, Mapping[str, Any]]) -> None:
    colour, muted = BY_THEME[theme.series(0)], BY_THEME[theme.MUTED]
    for layer in layers.values():
        kept, losses = layer["curve"]["kept"], layer["curve"]["losses"]
        whole = kept[-1]
        points = [(k / whole, loss) for k, loss in zip(kept, losses, strict=True) if loss > 0]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), color=muted, linewidth=0.8, alpha=0.6)
        if layer.get("loss", 0) > 0:
            axes.plot(layer["kept"] / whole, layer["loss"], "o", color=colour, markersize=4)
    axes.set_yscale("log")
    axes.set_xlabel("share that stays")
    axes.set_ylabel("expected loss")
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
