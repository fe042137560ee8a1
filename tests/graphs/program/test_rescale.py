"""Removing units under a root-mean-square norm computes what zeroing them computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphs import Network, trace
from graphs.axes.dims import unit_index


class Spelled(nn.Module):
    """A root-mean-square norm written out, with a scale stored as γ − offset."""

    def __init__(self, d: int, offset: float = 0.0, eps: float = 0.3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d))
        self.offset, self.eps = offset, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean + self.eps) * (self.offset + self.weight)


class Divided(Spelled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps))


class Grouped(Spelled):
    """Statistics over the places of each of two groups, as in Mamba-2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.view(*x.shape[:-1], 2, x.shape[-1] // 2)
        mean = grouped.square().mean(-1, keepdim=True)
        return self.weight * (grouped * torch.rsqrt(mean + self.eps)).view(x.shape)


class WithoutScale(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.3)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "fused": lambda d: nn.RMSNorm(d, eps=0.3),
    "spelled": Spelled,
    "offset": lambda d: Spelled(d, offset=1.0),
    "divided": Divided,
    "grouped": Grouped,
}


def network(norm: nn.Module) -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), norm, nn.Linear(12, 3)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return trace(model, (torch.randn(4, 5, dtype=torch.float64),))


def hidden(net: Network) -> str:
    (name,) = (a.name for a in net.axes.values() if a.exactness == "norm-rescaled")
    return name


def without(net: Network, axis: str, dead: list[int]) -> Network:
    """The network with the units of an axis set to zero wherever they are produced."""
    values = {}
    for name, tensor in net.tensors.items():
        value = tensor.value.clone()
        for i, (dim, produces) in enumerate(zip(tensor.dims, tensor.produces, strict=True)):
            if produces:
                units = unit_index(dim, axis, net.axes)
                value.movedim(i, 0)[torch.isin(units, torch.tensor(dead))] = 0
        values[name] = value
    return net.replace(values)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dead", [[0], [1, 2], [0, 3, 4, 5]])
def test_removal_equals_zeroing(name: str, dead: list[int]) -> None:
    net = network(NORMS[name](12))
    x = torch.randn(7, 5, dtype=torch.float64)
    masked = without(net, hidden(net), dead)
    small = masked.remove(hidden(net), dead).to_model()
    # A scale stored as γ − 1 is not dead at −0 but at −1; the input of the norm is.
    torch.testing.assert_close(small(x), masked.to_model()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_removal_in_two_steps_is_removal_in_one(name: str) -> None:
    net = network(NORMS[name](12))
    axis = hidden(net)
    once, twice = net.remove(axis, [0, 1, 4]), net.remove(axis, [4]).remove(axis, [0, 1])
    for tensor, other in zip(once.tensors.values(), twice.tensors.values(), strict=True):
        torch.testing.assert_close(tensor.value, other.value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_the_class_is_kept(name: str) -> None:
    net = network(NORMS[name](12))
    kept = net.remove(hidden(net), [2]).to_model()
    assert type(kept) is nn.Sequential
    eps = [getattr(m, "eps", None) for m in kept]
    if name != "grouped":
        assert eps[1] == pytest.approx(0.3 * 12 / 11)


def test_the_scale_is_left_alone_by_a_permutation() -> None:
    net = network(nn.RMSNorm(12, eps=0.3))
    order = torch.randperm(12)
    moved = net.permute(hidden(net), order)
    assert torch.equal(moved.tensors["1.weight"].value, net.tensors["1.weight"].value[order])


def test_a_norm_that_cannot_follow_says_so() -> None:
    net = network(WithoutScale())
    assert {a.exactness for a in net.axes.values() if a.frozen is None} == {"norm-changed"}
