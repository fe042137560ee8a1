"""Encoder–decoder models of text from `transformers`."""

from __future__ import annotations

from typing import Any

import torch

from tests.architectures.registry import pretrained_class, tokens

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
WIDTHS: dict[str, Any] = {
    **IDS,
    "vocab_size": 50,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 36,
    "max_position_embeddings": 32,
    "forced_eos_token_id": None,
}
T5_WIDTHS: dict[str, Any] = {
    **IDS,
    "vocab_size": 50,
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 44,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}


def pair() -> dict[str, Any]:
    return {"input_ids": tokens(), "decoder_input_ids": tokens(length=5)}


def masked_pair() -> dict[str, Any]:
    masks = {"attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    return {**pair(), **masks, "decoder_attention_mask": torch.ones(2, 5, dtype=torch.int64)}


def bart_like(name: str, traits: str = "", dtype: torch.dtype = torch.float64, **more: Any) -> None:
    pretrained_class(name, {**WIDTHS, **more}, pair, dtype=dtype, traits=traits)


def t5_like(name: str, traits: str = "", inputs: Any = pair, **more: Any) -> None:
    pretrained_class(name, {**T5_WIDTHS, **more}, inputs, traits=traits)


t5_like("T5ForConditionalGeneration")
t5_like("MT5ForConditionalGeneration", feed_forward_proj="gated-gelu", tie_word_embeddings=False)
t5_like("UMT5ForConditionalGeneration", feed_forward_proj="gated-gelu")
t5_like(
    "LongT5ForConditionalGeneration",
    inputs=masked_pair,
    local_radius=3,
    encoder_attention_type="local",
)
t5_like("Pop2PianoForConditionalGeneration", composer_vocab_size=5)
t5_like(
    "SwitchTransformersForConditionalGeneration",
    inputs=masked_pair,
    num_experts=4,
    expert_capacity=8,
    experts_implementation="batched_mm",
)
bart_like("BartForConditionalGeneration")
bart_like("MBartForConditionalGeneration")
bart_like("PegasusForConditionalGeneration")
bart_like("PegasusXForConditionalGeneration", block_size=4, num_global_tokens=2)
bart_like("MarianMTModel", decoder_vocab_size=50)
bart_like("BlenderbotForConditionalGeneration")
bart_like("BlenderbotSmallForConditionalGeneration")
bart_like("PLBartForConditionalGeneration")
bart_like("M2M100ForConditionalGeneration")
bart_like("BigBirdPegasusForConditionalGeneration", attention_type="original_full")
bart_like("LEDForConditionalGeneration", attention_window=4, max_encoder_position_embeddings=32)
bart_like(
    "FSMTForConditionalGeneration",
    "refused",
    dtype=torch.float32,
    src_vocab_size=50,
    tgt_vocab_size=50,
    langs=["en", "de"],
)
pretrained_class(
    "ProphetNetForConditionalGeneration",
    {
        **IDS,
        "vocab_size": 50,
        "hidden_size": 24,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4,
        "encoder_ffn_dim": 44,
        "decoder_ffn_dim": 36,
        "max_position_embeddings": 32,
        "ngram": 2,
    },
    pair,
)
