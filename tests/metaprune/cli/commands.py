"""Every command that the house shows to people: in README, docs, helps and docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from metaprune.cli import main
from metaprune.packages import CONF, HOME

PAGES = (HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md")))
SOURCES = sorted((HOME / "metaprune").rglob("*.py"))
SETTING = re.compile(r"'?[+~]*[a-z_][\w.]*=[^\s\"]")


def _blocks(text: str) -> Iterator[str]:
    """The lines of the shell blocks of a page, continued ones as one."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def _spans(text: str) -> Iterator[str]:
    """Inline code of a page; what breaks over lines as one line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def _docstrings(source: str) -> Iterator[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, nodes) and (text := ast.get_docstring(node)):
            yield text


def _whole(line: str) -> bool:
    words = line.split()
    return len(words) > 2 and words[0] == "metaprune" and words[1] in main.COMMANDS


def shown() -> dict[str, str]:
    """Command line → where it stands; those with settings, and no mere names of commands."""
    found: dict[str, str] = {}
    for page in PAGES:
        text, place = page.read_text(encoding="utf-8"), page.name
        lines = [line.strip() for line in (*_blocks(text), *_spans(text))]
        found |= {line: place for line in lines if _whole(line)}
    for file in sorted(CONF.glob("*.yaml")):
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        found |= {line: file.name for line in lines if _whole(line)}
    for source in SOURCES:
        for text in _docstrings(source.read_text(encoding="utf-8")):
            lines = [line.strip() for line in (*text.splitlines(), *_spans(text))]
            found |= {line: source.name for line in lines if _whole(line)}
    lines = [re.sub(r" {2,}[a-z].*", "", line.strip()) for line in main.help_text().splitlines()]
    return found | {line: "metaprune --help" for line in lines if _whole(line)}


def settings() -> dict[str, str]:
    """Single settings that pages name in inline code, and that hold more than a word → page."""
    return {
        span: page.name
        for page in PAGES
        for span in _spans(page.read_text(encoding="utf-8"))
        if SETTING.match(span) and '"' not in span and "..." not in span
    }
