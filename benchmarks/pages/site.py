"""What the documentation site has beside `docs/`: README, changelog, and the examples as tutorials.

MkDocs calls these functions (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md",
             "changelog.md": "CHANGELOG.md"}  # fmt: skip
"""Page of the site → the file of the repository that it shows."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of other files."""
    for page, name in FROM_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=inside(text)))
    card = (ROOT / "metaprune" / "pretrained" / "README.md").read_text(encoding="utf-8")
    card = card.replace("](../../docs/", "](")
    files.append(File.generated(config, "pretrained.md", content=card))
    for script in sorted((ROOT / "examples").glob("*.py")):
        text = tutorial(script.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository lead to the pages that show them."""
    return markdown.replace("](../metaprune/pretrained/README.md)", "](pretrained.md)")


def inside(text: str) -> str:
    """A file of the repository as a page: links and pictures as they are seen from `docs/`."""
    shown = {f"]({name})": f"]({page})" for page, name in FROM_ROOT.items()}
    text = re.sub(r"\]\(examples/(\w+)\.py\)", r"](tutorials/\1.md)", text.replace("](docs/", "]("))
    for link, other in shown.items():
        text = text.replace(link, other)
    return text


def tutorial(source: str) -> str:
    """A script as a page: its docstring, then a section for every cell.

    Args:
        source: Python with a docstring; a cell begins with `# %% TITLE`, and the comment below that
            is its text.
    """
    docstring = ast.get_docstring(ast.parse(source)) or ""
    title, _, rest = docstring.partition("\n\n")
    code = source.split('"""', 2)[2].strip()
    first, *cells = re.split(r"^# %% (.*)\n", code, flags=re.MULTILINE)
    parts = [f"# {title.rstrip('.')}", _block(rest), _fenced(first)]
    for head, cell in zip(cells[::2], cells[1::2], strict=True):
        said, rest = _comment(cell)
        parts += [f"## {head}", said, _fenced(rest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _comment(cell: str) -> tuple[str, str]:
    """The comment that a cell begins with, as prose, and its code."""
    lines = cell.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:count]), "\n".join(lines[count:])


def _block(text: str) -> str:
    """Prose with its indented commands as shell blocks."""
    return re.sub(
        r"(?:^    .+\n?)+",
        lambda found: "```sh\n" + re.sub(r"^    ", "", found[0], flags=re.M).rstrip() + "\n```\n",
        text,
        flags=re.MULTILINE,
    )


def _fenced(code: str) -> str:
    return f"```python\n{code.strip()}\n```" if code.strip() else ""
