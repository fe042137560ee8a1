"""Tiny causal language models of transformers: one row a class, one sampler for all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from training.zoo.registry import family

LEAST_POSITIONS = 512


@dataclass(frozen=True)
class Architecture:
    """A class of transformers, in the words of its own configuration.

    Args:
        model, config: names of the two classes.
        names: what is drawn → keyword of the configuration; what has none is not drawn: key-value
            heads are then the query heads, and their size the features over the heads.
        positions: keyword for the longest sequence.
        fixed: what all members share.
    """

    model: str
    config: str
    names: Mapping[str, str]
    positions: str = "max_position_embeddings"
    fixed: Mapping[str, Any] = field(default_factory=dict)


_COMMON = {
    "features": "hidden_size",
    "hidden": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "tied": "tie_word_embeddings",
}
_GROUPED = {**_COMMON, "key_value_heads": "num_key_value_heads", "head_size": "head_dim"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("LlamaForCausalLM", "LlamaConfig", _GROUPED),
    "qwen3": Architecture("Qwen3ForCausalLM", "Qwen3Config", _GROUPED),
    "gpt-neox": Architecture(
        "GPTNeoXForCausalLM", "GPTNeoXConfig", _COMMON, fixed={"rotary_pct": 0.5}
    ),
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "features": "n_embd",
            "hidden": "n_inner",
            "layers": "n_layer",
            "heads": "n_head",
            "tied": "tie_word_embeddings",
        },
        positions="n_positions",
    ),
}
"""Family → class. Llama: root-mean-square norms, rotary positions, gates, grouped queries. Qwen3:
the same with normalised queries and keys. GPT-NeoX: layer norms, attention beside the hidden layer,
rotary positions in half of each head. GPT-2: layer norms, learned positions, no gate."""


def _register(name: str, architecture: Architecture) -> None:
    def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
        """Draw 2 to 6 layers of 32 to 128 features, 1, 2 or 4 query heads a key-value head."""
        queries, pairs = rng.choice([1, 2, 4]), rng.choice([1, 2])
        features = rng.choice([32, 64, 96, 128])
        drawn = {
            "features": features,
            "hidden": round(features * rng.choice([2, 2.5, 3, 4]) / 4) * 4,
            "layers": rng.randint(2, 6),
            "heads": queries * pairs,
            "key_value_heads": pairs,
            "head_size": rng.choice([8, 16]),
            "tied": rng.random() < 0.5,
        }
        return {architecture.names[k]: v for k, v in drawn.items() if k in architecture.names}

    @family(name, sample, rank=1)
    def build(shape: tuple[int, ...], outputs: int, **options: Any) -> nn.Module:
        """Build the model from its configuration. (B, T) ids -> logits (B, T, outputs)."""
        import transformers

        config = getattr(transformers, architecture.config)(
            vocab_size=outputs,
            use_cache=False,
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
            **{architecture.positions: max(LEAST_POSITIONS, shape[0])},
            **architecture.fixed,
            **options,
        )
        return getattr(transformers, architecture.model)(config)


for _name, _architecture in ARCHITECTURES.items():
    _register(_name, _architecture)
