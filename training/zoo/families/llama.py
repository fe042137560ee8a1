"""Tiny causal language models: Llama from transformers, with grouped-query attention."""

from __future__ import annotations

import random
from typing import Any

from torch import nn

from training.zoo.registry import family


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 2 to 4 layers of 32 to 96 features, 1, 2 or 4 query heads a key-value head."""
    groups, kv_heads = rng.choice([1, 2, 4]), rng.choice([1, 2])
    hidden = rng.choice([32, 48, 64, 96])
    return {
        "hidden_size": hidden,
        "intermediate_size": round(hidden * rng.choice([2, 2.5, 3]) / 4) * 4,
        "num_hidden_layers": rng.randint(2, 4),
        "num_attention_heads": groups * kv_heads,
        "num_key_value_heads": kv_heads,
        "head_dim": rng.choice([8, 16]),
        "tie_word_embeddings": rng.random() < 0.5,
    }


@family("llama", sample, rank=1)
def llama(shape: tuple[int, ...], outputs: int, **options: Any) -> nn.Module:
    """Build a `LlamaForCausalLM` from a configuration. (B, T) ids -> logits (B, T, outputs)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=outputs,
        max_position_embeddings=max(512, shape[0]),
        use_cache=False,
        attn_implementation="sdpa",
        **options,
    )
    return LlamaForCausalLM(config)
