"""PyG and networkx views: bijective at neuron level, complete at layer level."""

from __future__ import annotations

import pytest
import torch

from graphs import Network, trace
from graphs.axes.dims import atoms
from tests.oracles.networks.families import FAMILIES, build


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_neuron_graph_round_trip_is_bit_exact(name, dtype):
    net = trace(*build(name, dtype))
    data = net.to_pyg("neuron")
    generator = torch.Generator().manual_seed(0)
    for kind in data.edge_types:
        if kind[1] != "of":
            store = data[kind]
            order = torch.randperm(store.edge_index.shape[1], generator=generator)
            store.edge_index, store.edge_attr = store.edge_index[:, order], store.edge_attr[order]
    back = Network.from_pyg(data, like=net)
    for key, tensor in net.tensors.items():
        assert back.tensors[key].value.dtype == tensor.value.dtype
        assert torch.equal(back.tensors[key].value, tensor.value), key


def test_every_entry_is_an_edge_even_a_zero():
    model, inputs = build("mlp")
    with torch.no_grad():
        model[0].weight.zero_()
    data = trace(model, inputs).to_pyg("neuron")
    assert data["0.weight:rows", "0.weight", "0.weight:cols"].edge_index.shape == (2, 72)


def test_missing_edges_are_refused():
    net = trace(*build("mlp"))
    data = net.to_pyg("neuron")
    store = data["0.weight:rows", "0.weight", "0.weight:cols"]
    store.edge_index[:, 1] = store.edge_index[:, 0]
    with pytest.raises(ValueError, match=r"0\.weight: expected each of its 72 edges once"):
        Network.from_pyg(data, like=net)


@pytest.mark.parametrize("name", ["resnet_option_a", "llama"])
def test_layer_views_hold_every_incidence(name):
    net = trace(*build(name))
    expected = {
        (key, axis, i)
        for key, tensor in net.tensors.items()
        for i, dim in enumerate(tensor.dims)
        for axis in atoms(dim)
    }
    data = net.to_pyg("layer")
    tensors, axes = list(net.tensors), list(net.axes)
    store = data["tensor", "along", "axis"]
    found = {
        (tensors[t], axes[a], int(d))
        for (t, a), d in zip(store.edge_index.T.tolist(), store.dim, strict=True)
    }
    assert found == expected
    graph = net.to_networkx()
    edges = {
        (*((u, v) if graph.nodes[u]["kind"] == "tensor" else (v, u)), k["dim"])
        for u, v, k in graph.edges(data=True)
    }
    assert edges == expected


def test_neuron_networkx_has_one_edge_a_weight():
    net = trace(*build("mlp"))
    graph = net.to_networkx("neuron")
    assert graph.number_of_edges() == 12 * 6 + 9 * 12 + 4 * 9
    edge = graph.get_edge_data(("0.in", 2), ("0.out", 5))[0]
    assert edge["weight"] == (float(net.tensors["0.weight"].value[5, 2]),)


@pytest.mark.parametrize("method", ["to_pyg", "to_networkx"])
def test_unknown_level_is_refused(method):
    net = trace(*build("mlp"))
    with pytest.raises(ValueError, match="level must be one of neuron, layer"):
        getattr(net, method)("block")
