"""What budgets were expected to lose, layer by layer, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from metaprune.report import theme, words
from metaprune.report.markup import table
from metaprune.report.plots import BY_THEME, plot
from metaprune.report.schema import Entry, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOUT = (
    "Expected loss is the divergence of a prediction that the removal in each layer adds to second "
    "order. Every line is a layer: what it would lose at each share that stays; dots mark what was "
    "chosen."
)

LOST = (
    "The divergence of the predictions from those of the dense network, after all repairs, on the "
    "examples that the repairs saw: less than on others. Expected losses rank layers and budgets; "
    "they are not on this scale, and those of a transformed network not on that of the one given."
)

MOST = 12
"""Layers that are listed, those that are expected to lose most."""


def expected(report: Report) -> str:
    """A table, and for the first pruned network its curves; a sentence where there are none."""
    entries = [entry for entry in report.entries if entry.expected]
    if not entries:
        return '<p class="muted">No budget was divided by expected loss.</p>'
    rows = [
        f"<tr><td>{escape(entry.method)}</td><td>{escape(words.asked(entry.asked))}</td>"
        f"<td>{entry.expected['total']:.3g}</td></tr>"
        for entry in entries
    ]
    first = entries[0]
    losses = {name: layer["loss"] for name, layer in first.expected["layers"].items()}
    most = sorted(losses, key=lambda name: -losses[name])[:MOST]
    layers = [
        f"<tr><td>{escape(name)}</td><td>{first.expected['layers'][name]['kept']:.4g}</td>"
        f"<td>{losses[name]:.3g}</td></tr>"
        for name in most
    ]
    asked = escape(words.asked(first.asked))
    return (
        f'<p class="muted">{ABOUT}</p>'
        f"<table>{table(['method', 'asked', 'expected'], rows)}</table>"
        f"{curves(first.expected['layers'])}"
        f"<details><summary>{asked}: the layers that are expected to lose most</summary>"
        f"<table>{table(['layer', 'kept', 'expected loss'], layers)}</table></details>"
        f"{_lost(entries)}"
    )


def _lost(entries: Sequence[Entry]) -> str:
    """A table of its own: on one line with what was expected, the two would look like one scale."""
    rows = [
        f"<tr><td>{escape(entry.method)}</td><td>{escape(words.asked(entry.asked))}</td>"
        f"<td>{entry.expected['lost']:.3g}</td></tr>"
        for entry in entries
        if entry.expected.get("lost") is not None
    ]
    if not rows:
        return ""
    return (
        f"<details><summary>What was lost on the calibration</summary>"
        f'<p class="muted">{LOST}</p>'
        f"<table>{table(['method', 'asked', 'divergence'], rows)}</table></details>"
    )


def curves(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Every layer's expected loss by the share that stays, as an SVG element.

    Args:
        layers: name → {"curve": {"kept", "losses"}}, with "kept" and "loss" where it was chosen.
    """
    return plot(lambda axes: _draw(axes, layers), "expected loss by what stays", (10.4, 4.2))


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
