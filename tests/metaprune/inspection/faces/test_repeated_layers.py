"""Repeated blocks are drawn once, and only where they are alike."""

from __future__ import annotations

from metaprune.inspection import Inspection, Layer
from metaprune.inspection.faces import repeated_layers


def test_repeated_blocks_are_drawn_once(resnet, llama):
    def short(found: Inspection) -> list[repeated_layers.Row]:
        axes = {n["id"]: (n["size"], n["frozen"]) for n in found.graph["nodes"] if "units" in n}
        return repeated_layers.rows(found.layers, axes)

    rows = short(resnet)
    assert [r.label for r in rows][:3] == ["conv1", "layer1.0–2.conv1", "layer1.0–2.conv2"]
    assert sum(r.times for r in rows) == len(resnet.layers)
    assert sum(r.times * r.layer.macs for r in rows) == resnet.cost["macs"]
    folded = short(llama)
    assert {r.times for r in folded if r.block} == {2}
    assert sum(r.times for r in folded) == len(llama.layers)


def layer(name: str, reads: str, writes: str, macs: int = 1) -> Layer:
    return Layer(name, name, "linear", "", tuple(reads), tuple(writes), macs, 1)


def test_blocks_that_differ_inside_are_not_folded():
    same = [layer("l.0.x", "a", "b"), layer("l.0.y", "b", "a"),
            layer("l.1.x", "a", "c"), layer("l.1.y", "c", "a")]  # fmt: skip
    axes = dict.fromkeys("abc", 4)
    assert [r.label for r in repeated_layers.rows(same, axes)] == ["l.0–1.x", "l.0–1.y"]
    assert len(repeated_layers.rows(same, {**axes, "c": 5})) == 4
    chain = [layer("l.0", "a", "b"), layer("l.1", "b", "c")]
    assert len(repeated_layers.rows(chain, axes)) == 2
    uneven = [same[0], same[1], same[2], layer("l.1.y", "c", "a", macs=2)]
    assert len(repeated_layers.rows(uneven, axes)) == 4
    nameless = [layer("1 · einsum", "a", "b"), layer("2 · einsum", "a", "c")]
    assert [r.label for r in repeated_layers.rows(nameless, axes)] == ["1–2 · einsum"]
