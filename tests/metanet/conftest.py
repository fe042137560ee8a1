"""Networks of every family, and metanetworks whose heads are not zero."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import nn

import metanet
from graphs import Network, trace
from tests.oracles.networks.families import FAMILIES, build

NAMES = list(FAMILIES)
SMALL = {
    "streaming": {"name": "streaming", "hidden": 16, "layers": 2},
    "pna": {"name": "pna", "hidden": 8, "layers": 2, "kernel": 4},
}


@cache
def network(name: str, dtype: torch.dtype = torch.float64) -> Network:
    model, inputs = build(name, dtype)
    return trace(model, inputs)


def trained(name: str, dtype: torch.dtype = torch.float64, **options: object) -> nn.Module:
    """A metanetwork whose every parameter is random, as if it had been trained."""
    meta = metanet.build(SMALL[name] | options).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in meta.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * noise)
    return meta


def evidence(net: Network, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        axis.name: torch.rand(axis.size, 3, generator=generator, dtype=torch.float64)
        for axis in net.axes.values()
        if axis.frozen is None
    }


def flat(out: metanet.Transformation) -> Mapping[str, torch.Tensor]:
    groups = ("values", "unit_logits", "axis_logits", "tensor_logits")
    return {f"{g}/{name}": t for g in groups for name, t in getattr(out, g).items()}


def assert_same(a: metanet.Transformation, b: metanet.Transformation, atol: float) -> None:
    first, second = flat(a), flat(b)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=atol, msg=name)
