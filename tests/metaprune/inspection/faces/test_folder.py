"""A folder is saved whole."""

from __future__ import annotations

import re

import networkx
import pytest

from metaprune.inspection import Inspection
from metaprune.inspection.faces.page import page


def test_a_folder_is_saved_whole(resnet, tmp_path):
    folder = resnet.save(tmp_path / "out")
    assert {p.name for p in folder.iterdir()} == {
        "inspection.html", "inspection.json", "graph.graphml",
    }  # fmt: skip
    assert Inspection.from_json((folder / "inspection.json").read_text()) == resnet
    graph = networkx.read_graphml(folder / "graph.graphml")
    assert graph.nodes["conv1.out"]["size"] == 16
    assert graph.has_edge("conv1.weight", "conv1.out")
    html = (folder / "inspection.html").read_text()
    assert html == page(resnet)
    assert "<svg" in html
    assert not re.search(r"https?://|<script|<link|@import", html)
    with pytest.raises(FileExistsError):
        resnet.save(folder)
