"""Repeated blocks are drawn once, and only where they are alike."""

from __future__ import annotations

from metaprune.inspection import Inspection
from metaprune.report.network.folding import folded_blocks
from metaprune.report.network.stops import Stop


def test_repeated_blocks_are_drawn_once(resnet, llama):
    def short(found: Inspection) -> list[Stop]:
        axes = {n["id"]: (n["size"], n["frozen"]) for n in found.graph["nodes"] if "units" in n}
        every = [
            Stop(x.name, "", x.reads, x.writes, (i,), (x.operator, x.macs))
            for i, x in enumerate(found.layers)
        ]
        return folded_blocks(every, axes)

    rows = short(resnet)
    assert [r.label for r in rows][:3] == ["conv1", "layer1.0–2.conv1", "layer1.0–2.conv2"]
    assert sorted(m for r in rows for m in r.members) == list(range(len(resnet.layers)))
    assert [resnet.layers[m].name for m in rows[1].members] == [
        f"layer1.{i}.conv1" for i in range(3)
    ]
    assert sum(resnet.layers[m].macs for r in rows for m in r.members) == resnet.cost["macs"]
    folded = short(llama)
    assert {r.times for r in folded if r.block} == {2}
    assert sum(r.times for r in folded) == len(llama.layers)


def layers(*told: tuple[str, str, str] | tuple[str, str, str, int]) -> list[Stop]:
    return [
        Stop(name, "", tuple(reads), tuple(writes), (i,), tuple(rest))
        for i, (name, reads, writes, *rest) in enumerate(told)
    ]


def test_blocks_that_differ_inside_are_not_folded():
    same = layers(("l.0.x", "a", "b"), ("l.0.y", "b", "a"), ("l.1.x", "a", "c"),
                  ("l.1.y", "c", "a"))  # fmt: skip
    axes = dict.fromkeys("abc", 4)
    rows = folded_blocks(same, axes)
    assert [(r.label, r.members) for r in rows] == [("l.0–1.x", (0, 2)), ("l.0–1.y", (1, 3))]
    assert len(folded_blocks(same, {**axes, "c": 5})) == 4
    assert len(folded_blocks(layers(("l.0", "a", "b"), ("l.1", "b", "c")), axes)) == 2
    uneven = [*same[:3], *layers(("l.1.y", "c", "a", 2))]
    assert len(folded_blocks(uneven, axes)) == 4
    nameless = layers(("1 · einsum", "a", "b"), ("2 · einsum", "a", "c"))
    assert [r.label for r in folded_blocks(nameless, axes)] == ["1–2 · einsum"]
