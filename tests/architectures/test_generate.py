"""A pruned causal model generates: with a key/value cache the same as without."""

from __future__ import annotations

import pytest
import torch

from tests.architectures.laws import offered, subject

NAMES = [
    *("LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma2ForCausalLM", "GPT2LMHeadModel"),
    *("MixtralForCausalLM", "GPTNeoXForCausalLM", "PhiForCausalLM", "OPTForCausalLM"),
    *("MistralForCausalLM", "StableLmForCausalLM"),
]
pytestmark = pytest.mark.filterwarnings("ignore")


def generated(model, ids, cache):
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=6,
        do_sample=False,
        use_cache=cache,
        output_logits=True,
        return_dict_in_generate=True,
        eos_token_id=None,
    )
    return found.sequences, torch.stack(found.logits)


@pytest.mark.parametrize("where", ["every layer", "first layer"])
@pytest.mark.parametrize("name", NAMES)
def test_generation_with_cache_equals_generation_without(name, where):
    s = subject(name)
    units = offered(s.net)
    if where == "first layer":
        units = {axis: u for axis, u in units.items() if ".0." in axis}
    assert units
    pruned = s.net.remove(units).to_model()
    assert type(pruned) is type(s.model)
    ids = s.inputs["input_ids"]
    with_cache, logits = generated(pruned, ids, True)
    without, expected = generated(pruned, ids, False)
    assert torch.equal(with_cache, without)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-8)
    assert with_cache.shape == (2, ids.shape[1] + 6)
