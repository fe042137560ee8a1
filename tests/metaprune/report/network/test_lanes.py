"""The drawing has every layer and every axis."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from metaprune.report.network.lanes import lanes
from metaprune.report.network.stops import Lane, Stop


def test_the_drawing_has_every_layer_and_every_axis(resnet):
    axes = {
        n["id"]: Lane(n["size"], n["units"], bool(n["frozen"]), "")
        for n in resnet.graph["nodes"]
        if n["kind"] == "axis"
    }
    stops = [Stop(s.name, "", s.reads, s.writes, (i,)) for i, s in enumerate(resnet.layers)]
    svg = ElementTree.fromstring(lanes(stops, axes))
    touched = {a for s in stops for a in (*s.reads, *s.writes)}
    drawn = [p for p in svg.iter("path") if p.get("class", "").startswith("lane")]
    assert len(drawn) == len(touched)
    assert len(list(svg.iter("g"))) == len(stops)
    xs = {}
    for path in drawn:
        x, top, bottom = map(float, re.findall(r"[\d.]+", path.get("d", "")))
        assert all(top > b or bottom < t for t, b in xs.get(x, ())), "two lanes in one place"
        xs.setdefault(x, []).append((top, bottom))
    assert ElementTree.fromstring(lanes([], {})).tag == "svg"
