"""The outline has every axis and every weight."""

from __future__ import annotations

from graphs import trace
from metaprune.report.outline import outline
from tests.metaprune.networks import cnn, images


def test_outline_has_every_axis_and_every_weight():
    net = trace(cnn(), images())
    nodes, edges = outline(net)
    assert {node.name for node in nodes} == set(net.axes)
    weights = {name for name, tensor in net.tensors.items() if tensor.role == "weight"}
    assert {edge.name for edge in edges} == weights
    names = {node.name for node in nodes}
    assert all(edge.target in names and edge.source in names | {""} for edge in edges)
