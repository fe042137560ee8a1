"""An inspection on disk."""

from __future__ import annotations

from pathlib import Path

from graphs.tools.files import whole_folder
from metaprune.inspection.faces.page import page
from metaprune.inspection.facts.graph import write_graph
from metaprune.inspection.schema import Findings


def save(found: Findings, folder: str | Path) -> Path:
    """Write `inspection.json`, `inspection.html` and `graph.graphml`; return the folder.

    Raises:
        FileExistsError: there is a file, or a folder with something in it, of that name.
    """
    with whole_folder(folder) as temporary:
        (temporary / "inspection.json").write_text(found.to_json(), encoding="utf-8")
        (temporary / "inspection.html").write_text(page(found), encoding="utf-8")
        write_graph(found.graph, temporary / "graph.graphml")
    return Path(folder)
