"""Blocks go one by one, the least missed first, until the target is met."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import Network, trace
from graphs.cost import count_macs
from pruners import Target, UnreachableTargetError
from pruners.statistics import Imitation
from pruners.units import Damage, choose_blocks, imitated

INPUTS = (torch.randn(6, 8),)


class Residual(nn.Module):
    def __init__(self, d: int, strength: float, width: int | None = None) -> None:
        super().__init__()
        width = width or d
        self.body = nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, d, bias=False))
        with torch.no_grad():
            self.body[2].weight.mul_(strength)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def network(*strengths: float) -> Network:
    torch.manual_seed(0)
    return trace(nn.Sequential(*(Residual(8, s) for s in strengths), nn.Linear(8, 5)), INPUTS)


def damage(net: Network) -> Damage:
    return imitated(net, Imitation(net.to_model(), [INPUTS]).value)


def test_the_least_missed_blocks_go_first() -> None:
    net = network(3.0, 0.0, 3.0, 0.1)
    found = choose_blocks(net, Target.parse({"macs": "60%"}), damage(net))
    assert found.names == ("1.body", "3.body")
    assert found.damage[0] == pytest.approx(0.0, abs=1e-9)
    assert found.damage[0] < found.damage[1]


@pytest.mark.parametrize("share", [95, 70, 45, 35])
def test_the_target_is_met_and_no_more_is_dropped_than_needed(share: int) -> None:
    net = network(1.0, 0.5, 2.0, 1.5)
    found = choose_blocks(net, Target.parse({"macs": f"{share}%"}), damage(net))
    limit = count_macs(net) * share / 100
    assert count_macs(net.drop(found.names)) <= limit
    assert count_macs(net.drop(found.names[:-1])) > limit


@pytest.mark.parametrize("share", [90, 75, 60, 45, 30])
def test_no_dropped_block_could_be_put_back(share: int) -> None:
    """Cheap blocks that hardly matter go first, and come back where a large one saves enough."""
    torch.manual_seed(0)
    blocks = [Residual(8, s, w) for s, w in ((0.01, 2), (0.02, 5), (3.0, 64), (1.0, 24))]
    net = trace(nn.Sequential(*blocks, nn.Linear(8, 5)), INPUTS)
    found = choose_blocks(net, Target.parse({"macs": f"{share}%"}), damage(net))
    limit = count_macs(net) * share / 100
    assert count_macs(net.drop(found.names)) <= limit
    for name in found.names:
        rest = [other for other in found.names if other != name]
        assert count_macs(net.drop(rest)) > limit
    assert len(found.damage) == len(found.names)


def test_a_zeroed_branch_counts_as_the_network_without_it() -> None:
    net = network(1.0, 0.5, 2.0)
    found = choose_blocks(net, Target.parse({"macs": "50%"}), damage(net))
    short = net.drop(found.names).to_model()
    dense = net.to_model()(*INPUTS).log_softmax(-1)
    other = short(*INPUTS).log_softmax(-1)
    divergence = (dense.exp() * (dense - other)).sum(-1).mean().item()
    assert found.damage[-1] == pytest.approx(divergence, rel=1e-4)


def test_what_blocks_cannot_reach_is_refused_with_the_range() -> None:
    net = network(1.0, 1.0)
    with pytest.raises(UnreachableTargetError, match="leaves macs between"):
        choose_blocks(net, Target.parse({"macs": "5%"}), damage(net))


def test_a_network_without_residual_sums_says_so() -> None:
    net = trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)), INPUTS)
    with pytest.raises(ValueError, match="no residual sums"):
        choose_blocks(net, Target.parse({"macs": "50%"}), damage(net))
