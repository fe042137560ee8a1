"""Small language models of many classes, saved as their users save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from torch import nn

VOCABULARY = 40
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**COMMON, tie_word_embeddings=False)),
    "tied llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**COMMON, tie_word_embeddings=True)),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=16, n_layer=3, n_head=4, vocab_size=VOCABULARY, n_positions=32)
    ),
    "opt": lambda: t.OPTForCausalLM(
        t.OPTConfig(
            hidden_size=16, ffn_dim=32, num_hidden_layers=3, num_attention_heads=4,
            vocab_size=VOCABULARY, max_position_embeddings=32, word_embed_proj_dim=16,
        )
    ),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**COMMON, head_dim=4)),
    "gemma2": lambda: t.Gemma2ForCausalLM(
        t.Gemma2Config(**COMMON, head_dim=4, sliding_window=4, query_pre_attn_scalar=4)
    ),
    "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**COMMON)),
}  # fmt: skip
"""Name → model with random weights."""

APART: dict[str, Callable[[], nn.Module]] = {
    "mamba": lambda: t.MambaForCausalLM(
        t.MambaConfig(hidden_size=16, num_hidden_layers=3, vocab_size=VOCABULARY, state_size=4)
    ),
}
"""Models in whose blocks a module reads weights of another."""


def saved(name: str, folder: Path, dtype: torch.dtype = torch.float32, **how: Any) -> nn.Module:
    """A model with weights of a size at which predictions differ, written to a folder."""
    torch.manual_seed(0)
    model: Any = {**FAMILIES, **APART}[name]().eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.2 * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, **how)
    opened: nn.Module = type(model).from_pretrained(folder, dtype=dtype).eval()
    return opened


def tokens(examples: int = 12, length: int = 10) -> torch.Tensor:
    """Token ids, (examples, length)."""
    return torch.randint(
        0, VOCABULARY, (examples, length), generator=torch.Generator().manual_seed(1)
    )
