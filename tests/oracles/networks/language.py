"""Tiny causal language models of transformers, with weights of gain about one."""

from __future__ import annotations

from typing import Any

import torch

_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "vocab_size": 30,
}
# Family → what its configuration needs beside, or instead of, the shape of a Llama.
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "Llama": _LLAMA,
    "Qwen3": {**_LLAMA, "head_dim": 6},
    "Gemma2": {**_LLAMA, "head_dim": 6, "sliding_window": 8},
    "Mixtral": {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
    "GPT2": {
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 32,
        "vocab_size": 30,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}


def language_model(name: str, **options: Any) -> Any:
    """A model of a family, in evaluation mode."""
    import transformers

    head = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    config = getattr(transformers, f"{name}Config")(**{**LANGUAGE_MODELS[name], **options})
    torch.manual_seed(0)
    model = getattr(transformers, name + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
    return model
