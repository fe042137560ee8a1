"""The text fits the terminal."""

from __future__ import annotations

import pytest

from metaprune.inspection.faces.terminal import as_text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_fits_the_terminal(resnet, llama, width):
    for found in (resnet, llama):
        text = as_text(found, width)
        assert max(map(len, text.splitlines())) <= width
        for title in ("May be pruned", "Left alone", "Reachable", "Where the cost is"):
            assert title in text
    assert "layer1.0–2.conv1.out: 16 channels each, × 3, exact" in str(resnet)
    assert "removing one cuts 6 slices, saves 290 parameters and 295k MACs" in str(resnet)
