"""Costs by node, module and tensor are one count, on the network's own sizes and on others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.cost import (
    count_macs,
    count_params,
    macs_by_module,
    macs_by_node,
    macs_by_tensor,
    params_by_tensor,
)
from tests.oracles.networks.families import FAMILIES, build


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_way_to_count_has_the_same_sum(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    free = [axis for axis in net.axes.values() if axis.frozen is None]
    fewer = {axis.name: max(axis.minimum, axis.size // 2) for axis in free}
    for sizes in ({}, fewer):
        total = count_macs(net, sizes)
        assert sum(macs_by_node(net, sizes).values()) == total
        assert sum(macs_by_module(net, sizes).values()) == total
        assert max(macs_by_tensor(net, sizes).values(), default=0) <= total
        assert sum(params_by_tensor(net, sizes).values()) == count_params(net, sizes)
    assert sum(params_by_tensor(net).values()) == sum(p.numel() for p in model.parameters())


class Model(nn.Module):
    """A weight used twice, one that is scaled before use, and two of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.scaled = nn.Linear(4, 4), nn.Parameter(torch.randn(3, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(x))
        x, _ = self.attention(x, x, x, need_weights=False)
        return x @ (2 * self.scaled).t()


def test_a_weight_has_the_products_of_all_its_uses():
    net = trace(Model().eval(), (torch.randn(2, 5, 4),))
    found = macs_by_tensor(net)
    assert found == {
        "twice.weight": 2 * 5 * 16,
        "attention.in_proj_weight": 5 * 48,
        "attention.out_proj.weight": 5 * 16,
        "scaled": 5 * 12,
    }
    # The rest is attention, which multiplies what was computed.
    assert count_macs(net) - sum(found.values()) == 2 * 5 * 5 * 4
    assert macs_by_module(net)["twice"] == found["twice.weight"]
