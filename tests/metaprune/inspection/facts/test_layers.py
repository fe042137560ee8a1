"""Layers and modules add up and stand in order."""

from __future__ import annotations


def test_modules_and_layers_add_up(resnet, llama):
    for found in (resnet, llama):
        assert sum(m.params for m in found.modules.values()) == found.cost["params"]
        assert sum(m.macs for m in found.modules.values()) == found.cost["macs"]
        assert sum(layer.macs for layer in found.layers) == found.cost["macs"]
        axes = {n["id"] for n in found.graph["nodes"] if n["kind"] == "axis"}
        assert {a for layer in found.layers for a in (*layer.reads, *layer.writes)} <= axes


def test_layers_stand_in_the_order_of_the_forward_with_their_place(resnet):
    names = [layer.name for layer in resnet.layers]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names[-1] == "linear"
    assert all("residual.py:" in layer.place for layer in resnet.layers)
    first = resnet.layers[1]
    assert (first.reads, first.writes) == (("conv1.out",), ("layer1.0.conv1.out",))
