"""Causal language models of `transformers`: attention, mixtures of experts, state spaces."""

from __future__ import annotations

from typing import Any

import torch

from tests.architectures.registry import pretrained_class, tokens

WIDTHS: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**WIDTHS, "num_key_value_heads": 2}
# Grouped matrix products, the default, have no float64 kernel; batched ones are the same function.
SPARSE = {
    **GROUPED,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "experts_implementation": "batched_mm",
}


def text() -> dict[str, Any]:
    return {"input_ids": tokens()}


def causal(
    name: str,
    config: dict[str, Any],
    traits: str = "",
    dtype: torch.dtype = torch.float64,
    entry: str | None = None,
    **more: Any,
) -> None:
    kind, config = f"{name}ForCausalLM", {**config, **more}
    pretrained_class(kind, config, text, entry=entry, dtype=dtype, traits=f"causal {traits}")


causal("Llama", GROUPED, tie_word_embeddings=True)
causal("Qwen2", GROUPED, num_key_value_heads=1)
causal("Qwen3", GROUPED, head_dim=10)
causal("Qwen2Moe", SPARSE, moe_intermediate_size=12, shared_expert_intermediate_size=20)
causal("Qwen3Moe", SPARSE, moe_intermediate_size=12, head_dim=6)
causal("Mistral", GROUPED, sliding_window=4)
causal("Mixtral", SPARSE, intermediate_size=20)
causal(
    "Mixtral",
    SPARSE,
    entry="MixtralForCausalLM.grouped_mm",
    dtype=torch.float32,
    experts_implementation="grouped_mm",
    hidden_size=32,
    intermediate_size=16,
)
causal("Gemma", GROUPED, head_dim=8)
causal("Gemma2", GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=4)
causal("Gemma3", GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=4)
causal("Phi", GROUPED, partial_rotary_factor=0.5, num_attention_heads=3, num_key_value_heads=3)
causal("Phi3", GROUPED)
causal("Olmo", GROUPED)
causal("Olmo2", GROUPED)
causal("Olmoe", SPARSE, intermediate_size=20)
causal("StableLm", GROUPED, partial_rotary_factor=0.5, num_attention_heads=3, num_key_value_heads=3)
causal("Starcoder2", GROUPED)
causal("Cohere", GROUPED)
causal("Cohere2", GROUPED, sliding_window=4)
causal("Granite", GROUPED)
causal("GraniteMoe", SPARSE)
causal("Glm", GROUPED, head_dim=8)
causal("Glm4", GROUPED, head_dim=8)
causal("SmolLM3", GROUPED)
causal("Nemotron", GROUPED)
causal("Helium", GROUPED, head_dim=6)
causal("Persimmon", WIDTHS, num_attention_heads=3)
causal("Exaone4", GROUPED, sliding_window=4)
causal("SeedOss", GROUPED, head_dim=8)
causal("Ernie4_5", GROUPED, head_dim=6)
causal("HunYuanDenseV1", GROUPED, head_dim=6)
causal("Apertus", GROUPED)
causal("Arcee", GROUPED)
causal("DiffLlama", GROUPED)
causal("Doge", GROUPED)
causal("GptOss", SPARSE, head_dim=6, sliding_window=4)
causal("Lfm2", GROUPED, full_attn_idxs=[1], block_multiple_of=4)
MLA = {
    "experts_implementation": "batched_mm",
    "kv_lora_rank": 8,
    "q_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "n_routed_experts": 4,
    "moe_intermediate_size": 12,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "num_key_value_heads": 4,
}
causal("DeepseekV2", {**WIDTHS, **MLA}, n_group=1, topk_group=1)
causal("DeepseekV3", {**WIDTHS, **MLA}, n_group=2, topk_group=1)
causal("MiniCPM3", {**WIDTHS, **MLA})

OLD = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def older(name: str, traits: str = "", dtype: torch.dtype = torch.float64, **config: Any) -> None:
    pretrained_class(name, {**OLD, **config}, text, dtype=dtype, traits=f"causal {traits}")


older("GPT2LMHeadModel", n_embd=24, n_head=4, n_layer=2, n_inner=44, n_positions=32)
older(
    "GPTNeoForCausalLM",
    hidden_size=24,
    num_layers=2,
    num_heads=4,
    intermediate_size=44,
    attention_types=[[["global", "local"], 1]],
    window_size=4,
    max_position_embeddings=32,
)
older("GPTJForCausalLM", n_embd=24, n_head=3, n_layer=2, n_inner=44, n_positions=32, rotary_dim=4)
older("GPTBigCodeForCausalLM", n_embd=24, n_head=4, n_layer=2, n_inner=44, n_positions=32)
older(
    "CodeGenForCausalLM", n_embd=32, n_head=4, n_layer=2, n_inner=44, n_positions=32, rotary_dim=4
)
causal("GPTNeoX", WIDTHS, num_attention_heads=3, rotary_pct=0.5)
older(
    "OPTForCausalLM",
    hidden_size=24,
    ffn_dim=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=32,
    word_embed_proj_dim=20,
)
older("BloomForCausalLM", hidden_size=24, n_layer=2, n_head=4)
older("FalconForCausalLM", hidden_size=24, num_hidden_layers=2, num_attention_heads=4)
older("MptForCausalLM", d_model=24, n_heads=4, n_layers=2, expansion_ratio=2, max_seq_len=32)
older(
    "XGLMForCausalLM",
    dtype=torch.float32,  # its forward makes the smallest number of the dtype in float32
    d_model=24,
    ffn_dim=44,
    num_layers=2,
    attention_heads=4,
    max_position_embeddings=32,
)
older("CTRLLMHeadModel", n_embd=24, n_head=4, n_layer=2, dff=44, n_positions=32)
older("OpenAIGPTLMHeadModel", n_embd=24, n_head=4, n_layer=2, n_positions=32)
causal("BioGpt", WIDTHS)
older("XLNetLMHeadModel", d_model=24, n_layer=2, n_head=4, d_inner=44)

older("MambaForCausalLM", hidden_size=24, num_hidden_layers=2, state_size=6, time_step_rank=5)
older("FalconMambaForCausalLM", hidden_size=24, num_hidden_layers=2, state_size=6, time_step_rank=5)
older(
    "Mamba2ForCausalLM",
    hidden_size=24,
    num_hidden_layers=2,
    state_size=6,
    num_heads=8,
    head_dim=6,
    n_groups=2,
    chunk_size=4,
)
causal(
    "Jamba",
    SPARSE,
    attn_layer_period=2,
    attn_layer_offset=1,
    expert_layer_period=2,
    expert_layer_offset=1,
    mamba_d_state=6,
    mamba_dt_rank=5,
    use_mamba_kernels=False,
)
causal(
    "Bamba",
    GROUPED,
    attn_layer_indices=[1],
    mamba_n_heads=8,
    mamba_d_head=6,
    mamba_n_groups=2,
    mamba_d_state=6,
    mamba_chunk_size=4,
)
causal(
    "Zamba2",
    {**WIDTHS, "num_hidden_layers": 3},
    num_key_value_heads=4,
    mamba_d_state=6,
    n_mamba_heads=8,
    mamba_ngroups=2,
    chunk_size=4,
    layers_block_type=["mamba", "hybrid", "mamba"],
    hybrid_layer_ids=[1],
    num_mem_blocks=1,
    use_mem_rope=False,
)
causal(
    "RecurrentGemma",
    GROUPED,
    lru_width=20,
    attention_window_size=4,
    block_types=["recurrent", "attention"],
    num_key_value_heads=1,
)
older("RwkvForCausalLM", hidden_size=24, num_hidden_layers=2, intermediate_size=44)
older(
    "xLSTMForCausalLM",
    hidden_size=64,
    embedding_dim=64,
    num_hidden_layers=2,
    num_blocks=2,
    num_heads=4,
    qk_dim_factor=1.0,
    chunk_size=4,
    mode="inference",
)
causal(
    "Qwen3Next",
    SPARSE,
    dtype=torch.float32,  # its recurrence computes in float32 whatever the input
    head_dim=8,
    moe_intermediate_size=12,
    shared_expert_intermediate_size=20,
    linear_num_value_heads=4,
    linear_num_key_heads=2,
    linear_key_head_dim=6,
    linear_value_head_dim=5,
    layer_types=["linear_attention", "full_attention"],
)
