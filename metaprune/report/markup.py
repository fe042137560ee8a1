"""Pages and pieces of them: templates of Jinja2, rows of tables, and text in a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        cells: plain text, or `Markup`.
        kinds: classes of the style sheet.
        colour: of the dot before the first cell; None for no dot.
    """

    cells: Sequence[str]
    kinds: str = ""
    colour: str | None = None


@cache
def _templates() -> Environment:
    # A name that a template knows and nobody gives is a mistake, and text is never HTML by itself.
    return Environment(
        loader=PackageLoader("metaprune"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def whole_page(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: file in `metaprune/templates`.
        values: for the names in it; text is escaped, `Markup` is not.
    """
    return _templates().get_template(template).render(**values)


def render(template: str, **values: Any) -> Markup:
    """A piece of a page, to be a value of another template; see `whole_page`."""
    return Markup(whole_page(template, **values))


def drawn_text(x: float, y: float, text: str, kind: str) -> str:
    """Plain text in a drawing, its middle at a height.

    Args:
        x, y: in pixels.
        text: as it is shown.
        kind: class of the style sheet.
    """
    return f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
