"""Metanetworks, layers and heads of a module of your own, found by name and saved with the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn

import metanet
from graphs import Network, trace
from metanet.registry import METANETWORKS
from tests.metanet.conftest import assert_same

SMALL = {"name": "streaming", "hidden": 8, "layers": 1, "heads": 2}


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    with ExitStack() as stack:
        for registry in (METANETWORKS, metanet.LAYERS, metanet.WEIGHT_HEADS, metanet.LOGIT_HEADS):
            stack.enter_context(registry.scoped())
        yield


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4)).eval()
    return trace(model, (torch.randn(2, 6),))


def shaken(config: Mapping[str, Any]) -> nn.Module:
    """A metanetwork whose parameters are random, as if it had been trained."""
    meta = metanet.build(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in meta.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return meta


def assert_at_home(config: Mapping[str, Any], net: Network, path) -> metanet.Transformation:
    """The laws of every metanetwork: identity untrained, equivariance, a file and back."""
    before = metanet.build(config)(net, None, 0.5)
    assert all(torch.equal(v, net.tensors[n].value) for n, v in before.values.items())
    assert all(not logits.any() for logits in before.unit_logits.values())
    meta = shaken(config)
    axis = next(a for a in net.axes.values() if a.frozen is None)
    order = torch.arange(axis.size).flip(0)
    metanet.save(meta, path)
    back = metanet.load(path)
    assert back.config == meta.config
    with torch.no_grad():
        out, moved = meta(net, None, 0.5), meta(net.permute(axis.name, order), None, 0.5)
        assert_same(out, back(net, None, 0.5), atol=0)
    expected = metanet.Transformation(
        {n: net.replace(out.values).permute(axis.name, order).tensors[n].value for n in out.values},
        out.unit_logits | {axis.name: out.unit_logits[axis.name][order]},
        out.axis_logits,
        out.tensor_logits,
    )
    assert_same(moved, expected, atol=1e-5)
    return out


def test_a_weight_head(net, tmp_path):
    @metanet.WEIGHT_HEADS.register("scale")
    class Scale(nn.Module):
        """Every tensor times a number near one: 1 + bound * tanh(a token's)."""

        def __init__(self, *, hidden: int, rank: int, bound: float, checkpoint_above: int) -> None:
            super().__init__()
            self.bound, self.tensors = bound, nn.Linear(hidden, 1)
            nn.init.zeros_(self.tensors.weight)
            nn.init.zeros_(self.tensors.bias)

        def forward(self, units, tokens, net, layout, sigma):
            factors = 1 + self.bound * self.tensors(tokens)[:, 0].tanh()
            return {
                m.name: factor * net.tensors[m.name].value
                for m, factor in zip(layout.matrices, factors, strict=False)
            }

    out = assert_at_home({**SMALL, "weights": "scale"}, net, tmp_path / "m.safetensors")
    for name, value in out.values.items():
        ratio = (value / net.tensors[name].value).flatten()
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
        assert ratio[0] != 1


def test_a_layer(net, tmp_path):
    @metanet.LAYERS.register("alone")
    class Alone(nn.Module):
        """Every unit and tensor thinks for itself."""

        def __init__(self, *, hidden: int, heads: int, checkpoint_above: int) -> None:
            super().__init__()
            self.units, self.tokens = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

        def forward(self, units, tokens, layout, reader, sigma):
            return units + self.units(units).relu(), tokens + self.tokens(tokens).relu()

    assert_at_home({**SMALL, "layer": "alone"}, net, tmp_path / "m.safetensors")


def test_a_metanetwork(net, tmp_path):
    @METANETWORKS.register("constant")
    class Constant(nn.Module):
        """Leaves the weights alone and likes every unit alike."""

        def __init__(self, *, start: float = 0.0) -> None:
            super().__init__()
            self.config = {"name": "constant", "start": start}
            self.level = nn.Parameter(torch.tensor(start))

        def forward(self, net, evidence=None, target=1.0):
            free = {a.name: a.size for a in net.axes.values() if a.frozen is None}
            return metanet.Transformation(
                {n: t.value for n, t in net.tensors.items() if t.role == "weight"},
                {name: self.level.expand(size) for name, size in free.items()},
                dict.fromkeys(free, self.level),
                {},
            )

    assert_at_home({"name": "constant"}, net, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match='did you mean "start"'):
        metanet.build({"name": "constant", "strat": 1.0})
