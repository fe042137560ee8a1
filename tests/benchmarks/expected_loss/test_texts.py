"""Llamas with a head apart compute the same; perplexity and divergence by their definitions."""

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.expected_loss.texts import divergence, perplexity, untied, with_fixed_head


def _llama(tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 0.3)
    return model


def _tokens() -> Tensor:
    return torch.randint(0, 32, (3, 20), generator=torch.Generator().manual_seed(1))


def test_a_head_apart_and_norms_without_scales_leave_the_function() -> None:
    model, tokens = _llama(), _tokens()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    apart = untied(model)
    with torch.no_grad():
        wanted, found = model(input_ids=tokens).logits, apart(input_ids=tokens).logits
        fixed = with_fixed_head(apart)(input_ids=tokens).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fixed, found, rtol=0, atol=0)
    assert all(bool((norm == 1).all()) for n, norm in apart.named_parameters() if "norm" in n)
    assert apart.lm_head.weight is not apart.model.embed_tokens.weight
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_fixed_head_is_no_parameter() -> None:
    names = dict(with_fixed_head(untied(_llama())).named_parameters())
    assert "lm_head.weight" not in names
    assert "model.embed_tokens.weight" in names


def test_perplexity_of_equal_scores_is_the_vocabulary() -> None:
    model = untied(_llama())
    nn.init.zeros_(model.lm_head.weight)
    assert abs(perplexity(model, _tokens()) - 32) < 1e-3


def test_divergence_is_zero_from_itself_and_positive_from_others() -> None:
    model, tokens = _llama(), _tokens()
    other = untied(model)
    nn.init.zeros_(other.lm_head.weight)
    assert divergence(model, model, tokens) == 0
    with torch.no_grad():
        p = model(input_ids=tokens).logits.log_softmax(-1)
    by_hand = float((p.exp() * (p + torch.tensor(32.0).log())).sum(-1).mean())
    assert abs(divergence(other, model, tokens) - by_hand) < 1e-4
