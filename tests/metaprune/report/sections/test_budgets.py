"""What methods leave is drawn row by row, once for blocks that repeat, each kind in its own way."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from metaprune.report import Edge, Layer, Node, page
from metaprune.report.sections.budgets import drawing
from metaprune.report.sections.tradeoff import picture
from tests.metaprune.report.reports import report


def test_budgets_of_weights_have_rows_of_their_own():
    """Masks and factors leave shares of weights, which are no axes."""
    entries = tuple(
        replace(entry, layers=(Layer("a.weight", 11008, 10), Layer("b.weight", 8, 8)))
        for entry in report().entries
    )
    found = replace(report(), entries=entries)
    shown = drawing(found, entries[:2])
    ElementTree.fromstring(shown)
    assert shown.count('class="track"') == 4
    assert "a.weight: 10 of 11008 kept" in shown
    assert "share of its numbers" in page(found)
    assert "units that it is the first to make" in " ".join(page(report()).split())
    masked = [replace(e, achieved={**e.achieved, "speedup": 1.0, "sparsity": 0.5}) for e in entries]
    alike = replace(found, entries=tuple(masked))
    assert (
        "At speedup 2.0, metanet leads: 85.00 % after finetuning with 50 % of the prunable "
        "weights gone, 50 % fewer parameters." in (page(alike))
    )
    assert "sparsity" in picture(alike, "sparsity")
    assert "speed-up (MACs before / after)" in picture(found, "speedup")


def repeated(blocks: int, forms: str = "", kept: int = 2):
    """A stem and blocks that repeat, of each of which `kept` plus its number units stay."""
    nodes = [Node("stem.out", 16, "channel", "exact", False)]
    edges = [Edge("stem.weight", "", "stem.out")]
    layers = [Layer("stem.out", 16, 8)]
    for i in range(blocks):
        inner = f"blocks.{i}.up.out"
        nodes.append(Node(inner, 32, "channel", "exact", False))
        edges += [Edge(f"blocks.{i}.up.weight", "stem.out", inner),
                  Edge(f"blocks.{i}.down.weight", inner, "stem.out")]  # fmt: skip
        name = f"blocks.{i}.up.weight" if forms else inner
        layers.append(Layer(name, 32, kept + i, forms))
    if forms:
        layers = layers[1:]
    entries = (replace(report().entries[0], layers=tuple(layers)),)
    return replace(report(), entries=entries, nodes=tuple(nodes), edges=tuple(edges))


@pytest.mark.parametrize("blocks", [2, 12])
def test_blocks_that_repeat_are_one_row_with_a_column_each(blocks):
    found = repeated(blocks)
    svg = ElementTree.fromstring(drawing(found, found.entries))
    rows = [g for g in svg.iter("g") if g.get("class") == "stop"]
    assert len(rows) == 3  # stem, up, down
    assert f"blocks.0–{blocks - 1}.up.weight × {blocks}" in ElementTree.tostring(svg, "unicode")
    bars = [p for p in svg.iter("path") if p.get("class") == "kept"]
    assert len(bars) == 1 + blocks
    (told,) = [t.text for t in svg.iter("title") if t.text and "blocks.0.up.out: 2 of" in t.text]
    assert len(told.splitlines()) == blocks


@pytest.mark.parametrize(
    ("form", "dashed", "lines"),
    [("mask", True, 1), ("factors", False, 2), ("mask and factors", True, 2)],
)
def test_masks_and_factors_are_drawn_as_such(form, dashed, lines):
    found = repeated(1, form)
    svg = ElementTree.fromstring(drawing(found, found.entries))
    bars = [p for p in svg.iter("path") if p.get("class") == "kept"]
    assert len(bars) == lines
    assert all(("stroke-dasharray" in bar.attrib) == dashed for bar in bars)
    said = {"mask": "dashed ones", "factors": "two thin ones", "mask and factors": "thin dashed"}
    assert said[form] in " ".join(page(found).split())


def test_axes_that_were_turned_or_reordered_are_marked():
    found = repeated(2)
    moved = {"turned": {"stem.out": 16}, "reordered": {"blocks.0.up.out": 32}}
    entries = (replace(found.entries[0], transform=moved),)
    found = replace(found, entries=entries)
    shown = drawing(found, entries)
    assert "stem.weight ↻" in shown
    assert "blocks.0.up.weight ⇅" in shown
    assert "blocks.0–1" not in shown  # not alike any more
    assert "marked ↻ were turned" in page(found)


def test_what_no_weight_makes_has_a_row():
    found = repeated(1)
    layers = (*found.entries[0].layers, Layer("stem.out2", 4, 1))
    found = replace(
        found, entries=(replace(found.entries[0], layers=layers),),
        nodes=(*found.nodes, Node("stem.out2", 4, "channel", "exact", False)),
    )  # fmt: skip
    assert "stem.out2: 1 of 4 kept" in drawing(found, found.entries)
