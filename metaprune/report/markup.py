"""Pieces of pages and pictures: a filled template, tiles, tables, lists and text in a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template


def fill(template: str, **parts: str) -> str:
    """A page: the template of this name with the common style sheet and its parts filled in."""
    folder = files("metaprune").joinpath("templates")
    text = Template(folder.joinpath(template).read_text("utf-8"))
    return text.substitute(style=folder.joinpath("style.css").read_text("utf-8"), **parts)


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures with their names, as plain text."""
    return "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b></div>'
        for name, value in figures
    )


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """The inside of a table: column titles as plain text, rows as HTML."""
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    return f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"


def items(lines: Iterable[str]) -> str:
    """The inside of a list, of lines of HTML."""
    return "".join(f"<li>{line}</li>" for line in lines)


def drawn_text(x: float, y: float, text: str, kind: str) -> str:
    """Plain text in a drawing, its middle at a height.

    Args:
        x, y: in pixels.
        text: as it is shown.
        kind: class of the style sheet.
    """
    return f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
