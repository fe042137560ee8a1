"""Speech and audio models of `transformers`."""

from __future__ import annotations

from typing import Any

import torch

from tests.architectures.registry import pretrained_class, tokens

WIDTHS: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "conv_dim": [8, 10, 12],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "num_labels": 5,
    "classifier_proj_size": 14,
}
SEQUENCE: dict[str, Any] = {
    "vocab_size": 50,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 36,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def waves() -> dict[str, Any]:
    return {"input_values": torch.randn(2, 400)}


def mel(bins: int, frames: int, transpose: bool = False) -> torch.Tensor:
    value = torch.randn(2, bins, frames)
    return value.transpose(1, 2).contiguous() if transpose else value


def speech(name: str, traits: str = "", **more: Any) -> None:
    pretrained_class(name, {**WIDTHS, **more}, waves, traits=traits)


speech("Wav2Vec2ForCTC")
speech("Wav2Vec2ForSequenceClassification", feat_extract_norm="layer", do_stable_layer_norm=True)
speech("HubertForCTC")
speech("WavLMForCTC", num_buckets=8, max_bucket_distance=16)
speech("UniSpeechForCTC")
speech("UniSpeechSatForCTC")
speech("SEWForCTC", squeeze_factor=2)
speech(
    "SEWDForCTC",
    squeeze_factor=2,
    position_buckets=8,
    max_position_embeddings=32,
    feature_layer_norm_eps=1e-5,
)
speech("Data2VecAudioForCTC", num_conv_pos_embeddings=2, conv_pos_kernel_size=3)
speech("Wav2Vec2ConformerForCTC", position_embeddings_type="relative", conv_depthwise_kernel_size=3)
pretrained_class(
    "Wav2Vec2BertForCTC",
    {
        **WIDTHS,
        "feature_projection_input_dim": 16,
        "conv_depthwise_kernel_size": 3,
        "add_adapter": False,
    },
    lambda: {"input_features": torch.randn(2, 20, 16)},
)
pretrained_class(
    "WhisperForConditionalGeneration",
    {
        **SEQUENCE,
        "num_mel_bins": 10,
        "max_source_positions": 12,
        "max_target_positions": 16,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    },
    lambda: {"input_features": mel(10, 24), "decoder_input_ids": tokens(length=5)},
)
pretrained_class(
    "Speech2TextForConditionalGeneration",
    {
        **SEQUENCE,
        "input_feat_per_channel": 10,
        "input_channels": 1,
        "conv_channels": 16,
        "num_conv_layers": 2,
        "max_source_positions": 40,
        "max_target_positions": 16,
    },
    lambda: {"input_features": mel(10, 24, True), "decoder_input_ids": tokens(length=5)},
)
pretrained_class(
    "MoonshineForConditionalGeneration",
    {
        **SEQUENCE,
        "hidden_size": 24,
        "intermediate_size": 44,
        "encoder_num_hidden_layers": 2,
        "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 4,
        "decoder_num_attention_heads": 4,
        "encoder_num_key_value_heads": 4,
        "decoder_num_key_value_heads": 4,
    },
    lambda: {"input_values": torch.randn(2, 2000), "decoder_input_ids": tokens(length=5)},
)
pretrained_class(
    "ASTForAudioClassification",
    {
        "hidden_size": 24,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 4,
        "frequency_stride": 3,
        "time_stride": 3,
        "max_length": 16,
        "num_mel_bins": 10,
        "num_labels": 5,
    },
    lambda: {"input_values": torch.randn(2, 16, 10)},
)
pretrained_class(
    "ParakeetForCTC",
    {
        "vocab_size": 30,
        "pad_token_id": 29,
        "encoder_config": {
            "hidden_size": 24,
            "intermediate_size": 44,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "num_mel_bins": 16,
            "conv_kernel_size": 3,
            "subsampling_conv_channels": 10,
            "subsampling_factor": 4,
        },
    },
    lambda: {"input_features": torch.randn(2, 32, 16)},
)
