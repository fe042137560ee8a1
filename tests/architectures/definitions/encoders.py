"""Bidirectional encoders of `transformers`, each under a task head."""

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
    "num_labels": 5,
}


def text() -> dict[str, Any]:
    return {"input_ids": tokens()}


def long_text() -> dict[str, Any]:
    return {"input_ids": tokens(length=16)}


def masked_text() -> dict[str, Any]:
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    return {"input_ids": tokens(), "attention_mask": mask}


def boxes() -> dict[str, Any]:
    corners = torch.randint(0, 50, (2, 7, 2, 2)).sort(2).values
    return {"input_ids": tokens(), "bbox": corners.flatten(2)}


def encoder(name: str, inputs: Any = text, traits: str = "", **more: Any) -> None:
    pretrained_class(name, {**WIDTHS, **more}, inputs, traits=traits)


encoder("BertForMaskedLM")
encoder("BertForSequenceClassification", masked_text)
encoder("BertForQuestionAnswering", attn_implementation="eager", num_labels=2)
encoder("RobertaForSequenceClassification")
encoder("RobertaPreLayerNormForMaskedLM")
encoder("XLMRobertaForTokenClassification")
encoder("CamembertForMaskedLM")
encoder("DistilBertForMaskedLM", dim=24, hidden_dim=44, n_layers=2, n_heads=4)
encoder("AlbertForMaskedLM", embedding_size=10, num_hidden_groups=1)
encoder("ElectraForPreTraining", embedding_size=10)
encoder("ElectraForMaskedLM", embedding_size=10)
encoder("DebertaForSequenceClassification", pos_att_type=["c2p", "p2c"], relative_attention=True)
encoder(
    "DebertaV2ForSequenceClassification",
    pos_att_type=["c2p", "p2c"],
    relative_attention=True,
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    position_buckets=8,
)
encoder("MPNetForMaskedLM")
encoder("ModernBertForMaskedLM", local_attention=4, global_attn_every_n_layers=2)
encoder("RoFormerForMaskedLM", embedding_size=10)
encoder("RemBertForMaskedLM", input_embedding_size=10, output_embedding_size=12)
encoder("ConvBertForMaskedLM", embedding_size=10, head_ratio=2, conv_kernel_size=3)
encoder("SqueezeBertForMaskedLM", embedding_size=24, q_groups=2, k_groups=2, v_groups=2)
encoder(
    "MobileBertForMaskedLM",
    embedding_size=10,
    intra_bottleneck_size=12,
    true_hidden_size=12,
    num_feedforward_networks=2,
)
encoder("FNetForMaskedLM", type_vocab_size=2)
encoder("NystromformerForMaskedLM", num_landmarks=7, segment_means_seq_len=7)
encoder("MegatronBertForMaskedLM")
encoder("ErnieForMaskedLM")
encoder("EsmForMaskedLM", mask_token_id=3, position_embedding_type="rotary")
encoder("XmodForMaskedLM", languages=["en"], default_language="en")
encoder("LayoutLMForMaskedLM", boxes, max_2d_position_embeddings=64)
encoder("LiltForTokenClassification", boxes, channel_shrink_ratio=2, max_2d_position_embeddings=64)
encoder(
    "BrosForTokenClassification",
    lambda: {**text(), "bbox": torch.rand(2, 7, 8)},
    dim_bbox=8,
    hidden_size=64,
)
encoder("LongformerForMaskedLM", long_text, attention_window=[4, 4])
encoder("BigBirdForMaskedLM", long_text, attention_type="original_full")
encoder("YosoForMaskedLM", use_expectation=True)
encoder("IBertForMaskedLM")
encoder("SplinterForQuestionAnswering", question_token_id=3)
encoder("NomicBertForMaskedLM")
encoder("EuroBertForMaskedLM", num_key_value_heads=2)
encoder("FlaubertWithLMHeadModel", emb_dim=24, n_layers=2, n_heads=4)
encoder("XLMWithLMHeadModel", emb_dim=24, n_layers=2, n_heads=4, n_langs=1)
encoder(
    "CanineForSequenceClassification", long_text, downsampling_rate=2, local_transformer_stride=16
)
pretrained_class(
    "FunnelForMaskedLM",
    {
        "vocab_size": 50,
        "block_sizes": [1, 2],
        "d_model": 24,
        "n_head": 4,
        "d_head": 5,
        "d_inner": 44,
        "num_decoder_layers": 1,
    },
    long_text,
)
encoder(
    "TapasForSequenceClassification",
    lambda: {**text(), "token_type_ids": torch.zeros(2, 7, 7, dtype=torch.int64)},
    type_vocab_sizes=[3, 5, 5, 2, 5, 5, 5],
)
