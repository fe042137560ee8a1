"""LLM Surgeon beside metaprune: which cells there are, what counts, and the table."""

import argparse

import pytest
import torch

from benchmarks.expected_loss import surgeon
from benchmarks.expected_loss.cells import DENSE
from benchmarks.expected_loss.surgeon import CHANNELS, HEAD_UNTOUCHED, OURS

GIVEN = argparse.Namespace(models=["stories260K"], patterns=None, shots=[1, 5], seeds=[0])


def _llama() -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.LlamaConfig(vocab_size=32, **shape, **heads, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config).eval()


def test_targets_count_the_decoder_alone_and_the_function_is_the_same() -> None:
    model, ids = _llama(), torch.arange(12).view(1, 12)
    alone = surgeon.decoder_alone(model)
    torch.testing.assert_close(alone(input_ids=ids).logits, model(input_ids=ids).logits)
    matrices = sum(p.numel() for p in alone.parameters() if p.ndim == 2)
    assert matrices == sum(x.weight.numel() for x in surgeon.decoder(model).values())
    assert len(surgeon.decoder(model)) == 14


def test_every_cell_is_measured_for_both_and_masks_with_the_head_untouched() -> None:
    cells = list(surgeon.cells(GIVEN))
    assert len(cells) == 4 * 4 + 3 * 3
    assert {c.rule for c in cells if c.pattern == CHANNELS} == {
        OURS,
        "LLM Surgeon, 1 shot",
        "LLM Surgeon, 5 shots",
    }
    assert {c.examples for c in cells if c.pattern == CHANNELS} == {64}
    shots = {"LLM Surgeon, 5 shots": 5}
    settings = {c.rule: surgeon.settings_of(c, shots) for c in cells if not c.target}
    assert settings["LLM Surgeon, 5 shots"] == {"shots": 5}
    assert settings[HEAD_UNTOUCHED] == {"budget": "uniform"}


def test_the_table_says_how_many_times_our_seconds_a_peer_takes() -> None:
    cell = {"model": "m", "pattern": "unstructured", "target": {"sparsity": 0.5}, "seed": 0}
    lines = [
        {**cell, "pattern": DENSE, "target": {}, "rule": DENSE, "figures": {"perplexity": 2.0}},
        {**cell, "rule": OURS, "figures": {"perplexity": 3.0}, "seconds": {"plan": 1, "apply": 1}},
        {**cell, "rule": "peer", "figures": {"perplexity": 4.0}, "seconds": {"all": 3}},
    ]
    shown = surgeon.table(lines)
    assert "m (dense 2.00), unstructured" in shown
    assert "| metaprune | 3.00 | 2.0 | 1.00 |" in shown
    assert "| peer | 4.00 | 3.0 | 1.50 |" in shown
