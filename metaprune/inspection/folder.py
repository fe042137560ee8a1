"""An inspection on disk."""

from __future__ import annotations

from pathlib import Path

from graphs.tools.files import whole_folder
from metaprune.inspection.build import write_graph
from metaprune.inspection.page import page
from metaprune.inspection.schema import Inspection


def save(found: Inspection, folder: str | Path) -> Path:
    """See `Inspection.save`."""
    with whole_folder(folder) as temporary:
        (temporary / "inspection.json").write_text(found.to_json(), encoding="utf-8")
        (temporary / "inspection.html").write_text(page(found), encoding="utf-8")
        write_graph(found, temporary / "graph.graphml")
    return Path(folder)
