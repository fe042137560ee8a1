"""torch counts the same, and a difference is told."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import metaprune
from graphs import trace
from graphs.cost import count_macs
from metaprune.inspection.faces.sentences import check as compared
from metaprune.inspection.facts.flops import check
from tests.architectures import registry as architectures
from tests.oracles.networks.families import FAMILIES, build


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_torch_counts_the_same_in_every_module(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    found, by_torch = check(net, model, inputs)
    assert found.failure == ""
    assert found.macs == count_macs(net)
    assert found.torch_macs == sum(by_torch.values())
    assert found.differences == ()
    assert found.agrees


ALIKE = (
    "densenet_121", "shufflenet_v2", "efficientnet_v2", "unet_transposed", "vnet_3d",
    "torch_transformer", "conformer", "set_transformer", "SwinForImageClassification",
    "T5ForConditionalGeneration", "WhisperForConditionalGeneration", "MambaForCausalLM",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALIKE)
def test_torch_counts_the_same_on_known_architectures(name):
    model, inputs = architectures.build(name)
    wanted = [p.requires_grad for p in model.parameters()]
    found, _ = check(trace(model, inputs), model, inputs)
    assert found.agrees, found
    assert [p.requires_grad for p in model.parameters()] == wanted


class Products(nn.Module):
    """A recurrent layer, whose products only torch counts, and one that torch has no formula for.

    The product of a matrix and a vector is one of ours alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.a = nn.GRUCell(6, 8), nn.Linear(8, 5)
        self.v = nn.Parameter(torch.randn(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mv(self.a(self.rnn(x)), self.v)


def test_a_difference_is_told_with_its_reason():
    model, inputs = Products(), (torch.randn(3, 6),)
    net = trace(model, inputs)
    found, _ = check(net, model, inputs)
    assert not found.agrees
    why = {one.module: one for one in found.differences}
    assert (why[""].macs, why[""].torch_macs) == (5, 0)
    assert "only metaprune counts" in why[""].why
    without = dataclasses.replace(net, program=dataclasses.replace(net.program, costs=()))
    found, _ = check(without, model, inputs)
    why = {one.module: one for one in found.differences}
    assert why["a"].why == "metaprune does not count linear; torch counts its kernels, addmm"
    assert "agrees" not in compared(metaprune.inspect(model, inputs))
