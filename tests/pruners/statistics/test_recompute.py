from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, SwinConfig, SwinForImageClassification

from pruners.statistics import Likelihood, collect
from pruners.statistics.recompute import recomputed, repeated_blocks
from tests.pruners.networks import randomized


def llama(layers=3):
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=11,
    )
    return randomized(LlamaForCausalLM(config)), {"input_ids": torch.randint(0, 11, (3, 6))}


class Block(nn.Module):
    """Changes its first output in place, as the first layer of a graph or in the middle of it."""

    def __init__(self):
        super().__init__()
        self.mix, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x, scale=1.0):
        return x + scale * self.act(self.mix(x))


def blocks():
    torch.manual_seed(0)
    layers = [Block(), Block(), Block(), nn.Flatten(), nn.Linear(48, 5)]
    return randomized(nn.Sequential(*layers)), torch.randn(4, 3, 4, 4)


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 3), nn.Linear(8, 3))
    return randomized(model), torch.randn(4, 5, 8)


def names_of(model):
    return [name for name, value in model.named_parameters() if value.ndim > 1]


@pytest.mark.parametrize("make_model", [llama, blocks, encoder])
@pytest.mark.parametrize("draws", [1, 3])
def test_what_is_computed_again_is_the_same(make_model, draws):
    model, batch = make_model()
    kept, again = (
        collect(
            model,
            [batch],
            names_of(model),
            ["curvature"],
            likelihood=Likelihood(1.0, draws, recompute=recompute),
        )
        for recompute in (False, True)
    )
    assert kept.unreached == again.unreached
    assert kept.moments.keys() == again.moments.keys()
    for name, values in kept.tensors().items():
        assert torch.equal(again.tensors()[name]["curvature"], values["curvature"])
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_are_computed_once_more_and_keep_nothing(recompute):
    model, batch = llama()
    runs, saved = [], []

    def save(value):
        saved.append(value)
        return value

    mlps = [layer.mlp for layer in model.model.layers]
    for mlp in mlps:
        mlp.register_forward_pre_hook(lambda module, given: runs.append(module))
    asked = Likelihood(1.0, 1, recompute=recompute)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda value: value):
        collect(model, [batch], names_of(model), ["curvature"], likelihood=asked)
    assert runs == mlps + (mlps[::-1] if recompute else [])
    # Outside the blocks there is a norm, and the product of the head.
    assert any(value.shape[-1] == 24 for value in saved) is not recompute


def test_a_model_without_blocks_says_that_nothing_is_saved():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    asked = Likelihood(1.0, 1, recompute=True)
    with pytest.warns(UserWarning, match="has no list of repeated blocks"):
        collect(model, [torch.randn(3, 4)], ["0.weight"], ["curvature"], likelihood=asked)


def test_blocks_are_the_innermost_repeated_modules_that_have_parts():
    model, _ = llama()
    assert repeated_blocks(model) == list(model.model.layers)
    config = SwinConfig(image_size=32, embed_dim=8, depths=[2, 3], num_heads=[2, 2], window_size=4)
    swin = SwinForImageClassification(config)
    found = repeated_blocks(swin)
    assert {type(block).__name__ for block in found} == {"SwinLayer"}
    assert len(found) == 5
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_a_forward_of_its_own_comes_back():
    model, _ = llama(layers=2)
    first = model.model.layers[0]
    first.forward = own = first.forward
    with recomputed(model, torch.no_grad):
        assert first.forward is not own
    assert vars(first)["forward"] is own
    assert "forward" not in vars(model.model.layers[1])
