"""What goes with a unit is counted."""

from __future__ import annotations

import pytest

import metaprune
from graphs import trace
from graphs.cost import count_macs, count_params
from tests.oracles.networks.families import build


@pytest.mark.parametrize("name", ["resnet_option_a", "dense_concatenation", "llama", "vit"])
def test_what_one_unit_saves_is_what_goes_with_it(name):
    net = trace(*build(name))
    found = metaprune.inspect(*build(name))
    dense = count_params(net), count_macs(net)
    for group in found.groups:
        small = net.remove(group.axis, [0])
        assert dense[0] - count_params(small) == group.params_saved
        assert abs(dense[1] - count_macs(small) - group.macs_saved) <= len(net.tensors)
        assert len(group.slices) == len(
            {(n, i) for g in net.groups() for n, i in g.tensors if g.axis.name == group.axis}
        )
