"""Models of several modalities, of time series and of video, from `transformers`."""

from __future__ import annotations

from typing import Any

import torch

from tests.architectures.registry import image, pretrained_class, tokens

TEXT: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PATCHES: dict[str, Any] = {
    "hidden_size": 20,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}


def both() -> dict[str, Any]:
    return {"input_ids": tokens(), "pixel_values": image(size=16)}


def text() -> dict[str, Any]:
    return {"input_ids": tokens()}


def picture() -> dict[str, Any]:
    return {"pixel_values": image(size=16)}


CLIP = {"text_config": TEXT, "vision_config": PATCHES, "projection_dim": 14}
pretrained_class("CLIPModel", CLIP, both)
pretrained_class("CLIPTextModelWithProjection", {**TEXT, "projection_dim": 14}, text)
pretrained_class("CLIPVisionModelWithProjection", {**PATCHES, "projection_dim": 14}, picture)
pretrained_class(
    "SiglipModel", {"text_config": {**TEXT, "projection_size": 20}, "vision_config": PATCHES}, both
)
pretrained_class("AltCLIPModel", {**CLIP, "text_config": {**TEXT, "project_dim": 14}}, both)
pretrained_class("ChineseCLIPModel", CLIP, both)
pretrained_class("MetaClip2Model", CLIP, both)
pretrained_class(
    "CLIPSegForImageSegmentation",
    {
        **CLIP,
        "extract_layers": [0, 1],
        "reduce_dim": 12,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 18,
    },
    both,
)
pretrained_class(
    "BlipForConditionalGeneration",
    {
        "text_config": {**TEXT, "encoder_hidden_size": 20},
        "vision_config": PATCHES,
        "projection_dim": 14,
    },
    both,
)
pretrained_class(
    "BlipForImageTextRetrieval",
    {
        "text_config": {**TEXT, "encoder_hidden_size": 20},
        "vision_config": PATCHES,
        "projection_dim": 14,
        "image_text_hidden_size": 10,
    },
    both,
)
pretrained_class("GitForCausalLM", {**TEXT, "vision_config": PATCHES}, both)
pretrained_class(
    "ViltForQuestionAnswering",
    {**TEXT, **PATCHES, "hidden_size": 24, "max_image_length": -1, "num_labels": 5},
    both,
)
pretrained_class(
    "FlavaModel",
    {
        "text_config": TEXT,
        "image_config": PATCHES,
        "multimodal_config": {**PATCHES, "hidden_size": 28},
        "projection_dim": 14,
        "hidden_size": 28,
    },
    both,
)
pretrained_class(
    "GroupViTModel",
    {
        "text_config": TEXT,
        "vision_config": {
            **PATCHES,
            "patch_size": 4,
            "depths": [1, 1, 1],
            "num_group_tokens": [4, 2, 0],
            "num_output_groups": [4, 2, 2],
        },
        "projection_dim": 14,
        "projection_intermediate_dim": 18,
    },
    both,
)
pretrained_class("OwlViTForObjectDetection", {**CLIP, "projection_dim": 24}, both)
pretrained_class(
    "VisualBertForPreTraining",
    {**TEXT, "visual_embedding_dim": 18},
    lambda: {**text(), "visual_embeds": torch.randn(2, 3, 18)},
)
pretrained_class(
    "LxmertModel",
    {**TEXT, "l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 18},
    lambda: {**text(), "visual_feats": torch.randn(2, 3, 18), "visual_pos": torch.rand(2, 3, 4)},
)
PERCEIVER: dict[str, Any] = {
    "num_latents": 5,
    "d_latents": 20,
    "d_model": 24,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 7,
    "num_labels": 5,
}
pretrained_class("PerceiverForMaskedLM", PERCEIVER, lambda: {"inputs": tokens()})
pretrained_class(
    "DecisionTransformerModel",
    {
        "state_dim": 6,
        "act_dim": 3,
        "hidden_size": 24,
        "n_layer": 2,
        "n_head": 4,
        "max_ep_len": 16,
        "n_positions": 64,
    },
    lambda: {
        "states": torch.randn(2, 4, 6),
        "actions": torch.randn(2, 4, 3),
        "rewards": torch.randn(2, 4, 1),
        "returns_to_go": torch.randn(2, 4, 1),
        "timesteps": torch.arange(4).repeat(2, 1),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
    },
)
SERIES = {"context_length": 16, "patch_length": 4, "patch_stride": 4, "prediction_length": 6}
pretrained_class(
    "PatchTSTForPrediction",
    {
        **SERIES,
        "num_input_channels": 3,
        "d_model": 24,
        "ffn_dim": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "loss": "mse",
    },
    lambda: {"past_values": torch.randn(2, 16, 3)},
)
pretrained_class(
    "PatchTSMixerForPrediction",
    {
        **SERIES,
        "num_input_channels": 3,
        "d_model": 12,
        "num_layers": 2,
        "mode": "mix_channel",
        "loss": "mse",
    },
    lambda: {"past_values": torch.randn(2, 16, 3)},
)
pretrained_class(
    "VideoMAEForVideoClassification",
    {**PATCHES, "num_frames": 4, "tubelet_size": 2, "num_labels": 5},
    lambda: {"pixel_values": torch.randn(2, 4, 3, 16, 16)},
)
pretrained_class(
    "VivitForVideoClassification",
    {**PATCHES, "num_frames": 4, "tubelet_size": [2, 8, 8], "num_labels": 5},
    lambda: {"pixel_values": torch.randn(2, 4, 3, 16, 16)},
)
pretrained_class(
    "TimesformerForVideoClassification",
    {**PATCHES, "num_frames": 4, "num_labels": 5},
    lambda: {"pixel_values": torch.randn(2, 4, 3, 16, 16)},
)
