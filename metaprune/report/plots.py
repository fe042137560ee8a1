"""Plots as SVG elements whose colours and fonts are those of the page around them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metaprune.report import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows no CSS variables: it draws with stand-in colours, which `_themed` replaces.
STAND_INS = {
    "#010101": theme.INK,
    "#020202": theme.MUTED,
    "#030303": theme.RULE,
    "#040404": theme.PAPER,
    **{f"#0101{i + 16:02x}": theme.series(i) for i in range(theme.SERIES)},
}
BY_THEME = {name: stand_in for stand_in, name in STAND_INS.items()}
STYLE: Any = {  # a mapping; matplotlib types its keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "metaprune",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": BY_THEME[theme.RULE],
    "axes.labelcolor": BY_THEME[theme.MUTED],
    "xtick.color": BY_THEME[theme.MUTED],
    "ytick.color": BY_THEME[theme.MUTED],
    "grid.color": BY_THEME[theme.RULE],
    "text.color": BY_THEME[theme.INK],
}


def plot(
    draw: Callable[[Axes], None], label: str, size: tuple[float, float] = (5.2, 3.8)
) -> Markup:
    """What is drawn into a pair of axes, as an SVG element.

    Args:
        draw: fills the axes; colours are those of `BY_THEME`.
        label: what the plot shows, for those who do not see it.
        size: in inches: no wider than what a telephone shows without letters that are too small.
    """
    # Imported here because it takes a second, which no other part of a report needs.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_themed(text.getvalue(), label))


def _themed(svg: str, label: str) -> str:
    """The SVG element alone, sized by its container, with the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg class="plot" role="img" aria-label="{label}" ', 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", svg)
    for stand_in, name in STAND_INS.items():
        svg = svg.replace(stand_in, name)
    return svg
