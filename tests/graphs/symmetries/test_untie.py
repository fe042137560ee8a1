"""Tied tensors get values of their own; class, axes and function stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from tests.graphs.symmetries.networks import Stream, lively, tokens


def test_function_class_and_names_of_axes_stay():
    model = lively(Stream(nn.RMSNorm, tied=True))
    net = trace(model, tokens())
    after = net.untie("head.weight")
    assert set(net.axes) <= set(after.axes)
    assert {n: a.size for n, a in net.axes.items()}.items() <= {
        n: a.size for n, a in after.axes.items()
    }.items()
    assert after.tensors.keys() - net.tensors.keys() == {"head.weight"}
    back = after.to_model()
    assert type(back) is Stream
    assert back.head.weight is not back.embed.weight
    assert model.head.weight is model.embed.weight
    torch.testing.assert_close(back(*tokens()), model(*tokens()), rtol=0, atol=0)


def test_the_traced_module_itself_is_untied():
    model = lively(Stream(nn.RMSNorm, tied=True))
    expected = model(*tokens())
    net = trace(model, tokens()).untie("embed.out.2").fold_norms("embed.out.2")
    same = net.remove("up.out", [0]).to_model(into=model)
    assert same is model
    assert model.head.weight is not model.embed.weight
    net.to_model(into=model)
    torch.testing.assert_close(model(*tokens()), expected, rtol=1e-10, atol=1e-10)


def test_a_pruned_network_is_untied_as_it_is():
    net = trace(lively(Stream(nn.RMSNorm, tied=True)), tokens())
    small = net.remove("up.out", [0, 3])
    after = small.untie("head.weight")
    assert after.axes["up.out"].size == net.axes["up.out"].size - 2
    expected = small.to_model()(*tokens())
    torch.testing.assert_close(after.to_model()(*tokens()), expected, rtol=0, atol=0)


def test_an_axis_without_ties_is_left_as_it_is():
    net = trace(lively(Stream(nn.RMSNorm)), tokens())
    assert net.untie("embed.out") is net


def test_what_is_not_tied_is_refused():
    net = trace(lively(Stream(nn.RMSNorm)), tokens())
    with pytest.raises(ValueError, match=r"head\.weight is not tied"):
        net.untie("head.weight")
    with pytest.raises(KeyError, match="is not a tensor"):
        net.untie("nothing")


@pytest.mark.filterwarnings("ignore")
def test_a_configuration_follows(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=30,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    inputs = (torch.arange(6)[None],)
    back = trace(model, inputs).untie("lm_head.weight").to_model()
    assert config.tie_word_embeddings
    assert not back.config.tie_word_embeddings
    with torch.no_grad():
        back.lm_head.weight.mul_(2)
    back.save_pretrained(tmp_path)
    opened = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(opened(*inputs).logits, 2 * model(*inputs).logits)
