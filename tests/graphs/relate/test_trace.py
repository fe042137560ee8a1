"""Models on the meta device: traced, grouped and planned without values."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import metaprune
from graphs import trace
from graphs.cost import count_macs, count_params
from metaprune.patterns.meta_device import FIRST_UNITS
from pruners import units


def llama(device: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
        use_cache=False,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config)
        return model.eval(), {"input_ids": torch.zeros(1, 6, dtype=torch.int64)}


def test_shapes_alone_give_the_same_network():
    model, inputs = llama("meta")
    without, with_values = trace(model, inputs), trace(*llama("cpu"))
    assert without.axes == with_values.axes
    assert [t.dims for t in without.tensors.values()] == [
        t.dims for t in with_values.tensors.values()
    ]
    assert [str(group) for group in without.groups()] == [str(g) for g in with_values.groups()]
    assert all(tensor.value.is_meta for tensor in without.tensors.values())
    assert count_macs(without) == count_macs(with_values)


def test_the_uniform_budget_plans_and_says_which_units_stay():
    model, inputs = llama("meta")
    plan = metaprune.plan(model, inputs, target={"params": "60%"}, metanet=None, budget="uniform")
    assert plan.provenance["units"] == FIRST_UNITS
    assert plan.provenance["fingerprints"]["weights"] == "none"
    assert all(kept.keep == tuple(range(len(kept.keep))) for kept in plan.kept.values())
    net = trace(*llama("cpu"))
    small = net.remove(plan.removals(net))
    assert count_params(small) <= 0.6 * count_params(net)
    assert count_params(small) == plan.achieved["params"]
    assert small.to_model()(**inputs_of_one()).logits.shape == (1, 3, 50)


def inputs_of_one() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[1, 2, 3]])}


def test_a_pruned_model_without_values_has_the_shapes():
    net = trace(*llama("meta"))
    axis = net.axes["model.layers.0.mlp.gate_proj.out"].name
    model = net.remove(axis, range(20)).to_model()
    layer = model.model.layers[0].mlp
    assert layer.gate_proj.weight.is_meta
    assert layer.gate_proj.weight.shape == (28, 32)
    assert layer.down_proj.in_features == 28


@pytest.mark.parametrize(
    ("budget", "metanet", "words"),
    [
        ("global", None, 'budget "global" looks at the values of weights'),
        (None, None, 'budget "global" looks at the values of weights'),
        (None, "default", "a metanetwork looks at the values of weights"),
    ],
)
def test_what_needs_values_is_refused_with_what_does_not(budget, metanet, words):
    model, inputs = llama("meta")
    with pytest.raises(ValueError, match=words) as caught:
        metaprune.plan(model, inputs, target={"macs": "50%"}, budget=budget, metanet=metanet)
    assert "model.embed_tokens.weight is on the meta device" in str(caught.value)
    assert 'budget="uniform"' in str(caught.value)


def test_scores_of_nothing_are_refused():
    with pytest.raises(ValueError, match="is on the meta device and has no values to score"):
        units.unit_scores(trace(*llama("meta")))
