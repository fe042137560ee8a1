"""Dropping a dead residual branch changes nothing, and whole layers leave their stack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graphs import Network, trace
from graphs.cost import count_params
from tests.oracles.networks.families import FAMILIES


class Layer(nn.Module):
    def __init__(self, d: int, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.norm = nn.LayerNorm(d)
        self.mixing = nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixing(self.norm(x).mean(1, keepdim=True).expand_as(x))
        return x + self.mlp(self.norm(x))


class Stack(nn.Module):
    def __init__(self, depth: int = 3, d: int = 8) -> None:
        super().__init__()
        self.num_layers = depth
        self.kinds_of_layer = [f"kind {i}" for i in range(depth)]
        self.enter = nn.Linear(5, d)
        self.layers = nn.ModuleList(Layer(d, i) for i in range(depth))
        self.leave = nn.Linear(d, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for layer in self.layers[: self.num_layers]:
            x = layer(x)
        return self.leave(x)


INPUTS = (torch.randn(2, 4, 5, dtype=torch.float64),)


def stack() -> Network:
    torch.manual_seed(0)
    return trace(Stack().double().eval(), INPUTS)


def killed(net: Network, names: list[str]) -> Network:
    """The network with every weight of some blocks zero."""
    dead = {t for b in net.blocks() if b.name in names for t in b.tensors}
    return net.replace({t: torch.zeros_like(net.tensors[t].value) for t in dead})


def compare(net: Network, names: list[str], inputs: Any) -> nn.Module:
    dense = killed(net, names)
    short = dense.drop(names).to_model()
    torch.testing.assert_close(short(*inputs), dense.to_model()(*inputs), rtol=1e-10, atol=1e-10)
    return short


def test_the_blocks_of_a_stack() -> None:
    names = [b.name for b in stack().blocks()]
    assert names == [f"layers.{i}.{part}" for i in range(3) for part in ("mixing", "mlp")]


@pytest.mark.parametrize("layers", [[0], [1], [2], [0, 1], [0, 2]])
def test_whole_layers_leave_the_stack_and_the_class_is_kept(layers: list[int]) -> None:
    names = [f"layers.{i}.{part}" for i in layers for part in ("mixing", "mlp")]
    short = compare(stack(), names, INPUTS)
    assert type(short) is Stack
    assert len(short.layers) == short.num_layers == 3 - len(layers)
    assert [layer.layer_idx for layer in short.layers] == list(range(3 - len(layers)))
    assert short.kinds_of_layer == [f"kind {i}" for i in range(3) if i not in layers]


@pytest.mark.parametrize("name", ["layers.0.mixing", "layers.2.mlp"])
def test_a_part_of_a_layer_makes_an_exported_graph(name: str) -> None:
    short = compare(stack(), [name], INPUTS)
    assert type(short) is not Stack
    assert not any(n.startswith(name) for n, _ in short.named_parameters())
    short(torch.randn(5, 4, 5, dtype=torch.float64))
    short.train()
    short(*INPUTS).sum().backward()


def test_dropping_and_cutting_combine_in_any_order() -> None:
    net = killed(stack(), ["layers.1.mixing", "layers.1.mlp"])
    blocks = ["layers.1.mixing", "layers.1.mlp"]
    (axis,) = (g.axis.name for g in net.groups() if ("layers.2.mlp.0.weight", 0) in g.tensors)
    first = net.remove(axis, [0, 3]).drop(blocks).to_model()
    then = net.drop(blocks).remove(axis, [0, 3]).to_model()
    assert type(first) is type(then) is Stack
    torch.testing.assert_close(first(*INPUTS), then(*INPUTS))


@pytest.mark.parametrize("family", ["resnet_projection", "resnet_option_a"])
def test_dead_blocks_of_families_are_lossless(family: str) -> None:
    model, inputs = FAMILIES[family]()
    net = trace(model.double().eval(), _double(inputs))
    blocks, parameters = net.blocks(), net.source.parameters
    assert blocks, "the family has residual branches"
    for block in blocks:
        dense = killed(net, [block.name])
        short = dense.drop([block.name])
        left = dense.to_model()(*_double(inputs))
        torch.testing.assert_close(short.to_model()(*_double(inputs)), left, rtol=1e-9, atol=1e-9)
        lost = sum(net.tensors[t].value.numel() for t in block.tensors if t in parameters)
        assert count_params(net) - count_params(short) == lost


def _double(inputs: Any) -> tuple[Any, ...]:
    return tuple(v.double() if v.is_floating_point() else v for v in inputs)


def test_a_sum_of_two_projections_is_no_block() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(x)

    assert trace(Two(), (torch.randn(2, 5),)).blocks() == []


def test_an_unknown_block_is_named() -> None:
    with pytest.raises(KeyError, match=r"layers\.0\.mixing"):
        stack().drop(["layers.9.mlp"])
