"""What is ignored stays dense, by every pattern, and keeps its shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune

X, Y = torch.randn(64, 8), torch.arange(64) % 3


def network():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, 3)).eval()


ASKED = {
    "channels": {"target": {"macs": "80%"}},
    "unstructured": {"target": {"sparsity": 0.5}},
    "low-rank": {"target": {"macs": "90%"}},
    "2:4": {},
}
WAYS = {
    "a name": ["0"],
    "a pattern": ["[0]*"],
    "a parameter": ["0.weight"],
    "a class": [nn.LayerNorm],
    "the name of a class": ["LayerNorm"],
}


@pytest.mark.parametrize("pattern", ASKED)
@pytest.mark.parametrize("way", WAYS)
def test_ignored_parameters_stay_dense_and_keep_their_shape(pattern, way):
    dense = network()
    found = metaprune.prune(dense, (X, Y), pattern=pattern, ignore=WAYS[way], **ASKED[pattern])
    layer = 1 if "LayerNorm" in str(WAYS[way]) else 0
    before, after = dense[layer].weight, found.model[layer].weight
    assert after.shape == before.shape
    assert bool((after != 0).all())
    assert not any(name.startswith(f"{layer}.") for name in found.masks)


def test_every_step_of_a_schedule_ignores_it():
    found = metaprune.prune(
        network(), (X, Y), target={"macs": "60%"}, ignore=["0"], schedule="iterative"
    )
    assert found.model[0].out_features == 16
    assert found.model[3].out_features < 16


def test_branches_with_ignored_parameters_are_not_dropped():
    net = metaprune.trace(network(), (X[:2],)).freeze(["3.weight"], "because")
    assert net.tensors["3.weight"].frozen == net.axes["3.out"].frozen == "because"
    assert net.replace({"3.weight": torch.zeros(16, 16)}).tensors["3.weight"].frozen
    with pytest.raises(KeyError, match="not a tensor of this network"):
        net.freeze(["9.weight"], "because")


def test_the_plan_knows_and_a_wrong_name_is_told():
    plan = metaprune.plan(network(), (X, Y), target={"macs": "80%"}, ignore=[nn.LayerNorm])
    assert plan.provenance["settings"]["ignore"] == ["LayerNorm"]
    with pytest.raises(ValueError, match=r'unknown module or class "LayerNom" \(did you mean "La'):
        metaprune.plan(network(), (X, Y), target={"macs": "80%"}, ignore=["LayerNom"])
