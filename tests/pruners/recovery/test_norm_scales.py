"""Scales of root-mean-square norms follow the energy of the units that stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import Network, trace
from pruners.recovery import compensate_norms


def network(strength: torch.Tensor, norm: nn.Module | None = None) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), norm or nn.RMSNorm(12, eps=1e-6), nn.Linear(12, 3))
    model = model.double()
    with torch.no_grad():
        model[0].weight.mul_(strength[:, None])
        model[0].bias.mul_(strength)
        model[1].weight.normal_()
    return model, trace(model, (torch.randn(4, 5, dtype=torch.float64),))


BATCHES = [(torch.randn(64, 5, dtype=torch.float64),) for _ in range(3)]
KEPT = torch.arange(8)


def axis_of(net: Network) -> str:
    return str(net.tensors["0.weight"].dims[0])


def test_dead_units_change_nothing() -> None:
    strength = torch.ones(12, dtype=torch.float64)
    strength[8:] = 0
    model, net = network(strength)
    found = compensate_norms(net, model, {axis_of(net): KEPT}, BATCHES)
    torch.testing.assert_close(found["1.weight"], net.tensors["1.weight"].value)


@pytest.mark.parametrize("seed", range(3))
def test_the_norm_returns_what_it_returned_on_average(seed: int) -> None:
    torch.manual_seed(seed)
    model, net = network(torch.rand(12, dtype=torch.float64) + 0.2)
    axis = axis_of(net)
    scaled = net.replace(compensate_norms(net, model, {axis: KEPT}, BATCHES))
    gone = list(range(8, 12))
    x = BATCHES[0][0]

    def off(pruned: nn.Module) -> float:
        ratio = pruned[:2](x).square().mean() / model[:2](x)[:, :8].square().mean()
        return abs(ratio.item() - 1)

    assert off(scaled.remove(axis, gone).to_model()) < off(net.remove(axis, gone).to_model())


def test_nothing_cut_is_nothing_scaled() -> None:
    model, net = network(torch.ones(12, dtype=torch.float64))
    assert compensate_norms(net, model, {axis_of(net): torch.arange(12)}, BATCHES) == {}
    assert compensate_norms(net, model, {}, BATCHES) == {}
