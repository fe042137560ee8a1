"""Image models of `transformers`: attention, hierarchies, convolutions, detection, depth."""

from __future__ import annotations

from typing import Any

from tests.architectures.registry import image, pretrained_class

WIDTHS: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
    "num_labels": 5,
}


def small() -> dict[str, Any]:
    return {"pixel_values": image(size=16)}


def picture() -> dict[str, Any]:
    return {"pixel_values": image(size=32)}


def large() -> dict[str, Any]:
    return {"pixel_values": image(size=64)}


def plain(name: str, traits: str = "", **more: Any) -> None:
    pretrained_class(name, {**WIDTHS, **more}, small, traits=traits)


def staged(name: str, inputs: Any = picture, traits: str = "", **config: Any) -> None:
    pretrained_class(name, {"num_labels": 5, **config}, inputs, traits=traits)


plain("ViTForImageClassification")
plain("ViTForMaskedImageModeling", encoder_stride=4)
plain("DeiTForImageClassificationWithTeacher")
plain(
    "BeitForImageClassification",
    use_relative_position_bias=True,
    use_shared_relative_position_bias=False,
)
plain("Data2VecVisionForImageClassification", use_relative_position_bias=True)
plain("Dinov2ForImageClassification", mlp_ratio=2)
plain("Dinov2WithRegistersForImageClassification", mlp_ratio=2, use_swiglu_ffn=True)
plain("DINOv3ViTModel", hidden_size=32, num_register_tokens=2)
plain("ViTMSNForImageClassification")
plain("IJepaForImageClassification")
plain("PixioModel", n_cls_tokens=2)
plain("Aimv2VisionModel")
plain(
    "YolosForObjectDetection",
    image_size=[16, 16],
    num_detection_tokens=6,
    use_mid_position_embeddings=False,
)
plain("SiglipForImageClassification", vision_config={**WIDTHS})
plain(
    "VitDetModel", mlp_ratio=2, window_size=2, residual_block_indices=[0], window_block_indices=[0]
)
staged(
    "SwinForImageClassification",
    image_size=32,
    patch_size=4,
    embed_dim=12,
    depths=[2, 2],
    num_heads=[2, 4],
    window_size=4,
    mlp_ratio=2,
)
staged(
    "Swinv2ForImageClassification",
    image_size=32,
    patch_size=4,
    embed_dim=12,
    depths=[2, 2],
    num_heads=[2, 4],
    window_size=4,
    mlp_ratio=2.0,
)
staged(
    "Swin2SRForImageSuperResolution",
    image_size=16,
    patch_size=1,
    embed_dim=12,
    depths=[2, 2],
    num_heads=[2, 2],
    window_size=4,
    mlp_ratio=2.0,
    upscale=2,
    num_channels=3,
)
staged(
    "ConvNextForImageClassification",
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 2, 1],
)
staged("ConvNextV2ForImageClassification", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1])
staged(
    "RegNetForImageClassification",
    embedding_size=8,
    hidden_sizes=[12, 20, 28, 36],
    depths=[1, 2, 1, 1],
    groups_width=4,
    layer_type="y",
)
staged(
    "ResNetForImageClassification",
    embedding_size=8,
    hidden_sizes=[12, 20, 28, 36],
    depths=[1, 2, 1, 1],
    layer_type="bottleneck",
)
staged(
    "BitForImageClassification",
    embedding_size=8,
    hidden_sizes=[16, 24, 32, 40],
    depths=[1, 2, 1, 1],
    num_groups=4,
)
staged("MobileNetV1ForImageClassification", depth_multiplier=0.25, min_depth=6, image_size=32)
staged(
    "MobileNetV2ForImageClassification",
    depth_multiplier=0.25,
    min_depth=6,
    image_size=32,
    depth_divisible_by=4,
)
staged(
    "MobileViTForImageClassification",
    large,
    image_size=64,
    hidden_sizes=[12, 16, 20],
    neck_hidden_sizes=[8, 12, 16, 20, 24, 28, 40],
    num_attention_heads=4,
)
staged(
    "MobileViTV2ForImageClassification",
    large,
    image_size=64,
    width_multiplier=0.1,
    base_attn_unit_dims=[64, 96, 128],
    n_attn_blocks=[1, 1, 1],
)
staged(
    "EfficientNetForImageClassification",
    image_size=32,
    width_coefficient=0.25,
    depth_coefficient=0.3,
    depth_divisor=4,
    hidden_dim=320,
)
staged(
    "PoolFormerForImageClassification",
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 2, 1],
    mlp_ratio=2.0,
)
staged(
    "SegformerForSemanticSegmentation",
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 4, 5],
    decoder_hidden_size=18,
    mlp_ratios=[2, 2, 2, 2],
)
staged(
    "SegformerForImageClassification",
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 4, 5],
    mlp_ratios=[2, 2, 2, 2],
)
staged(
    "PvtForImageClassification",
    image_size=32,
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 4, 5],
    mlp_ratios=[2, 2, 2, 2],
)
staged(
    "PvtV2ForImageClassification",
    image_size=32,
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 4, 5],
    mlp_ratios=[2, 2, 2, 2],
)
staged(
    "CvtForImageClassification",
    embed_dim=[8, 12, 20],
    num_heads=[1, 2, 4],
    depth=[1, 2, 3],
    mlp_ratio=[2.0, 2.0, 2.0],
)
staged(
    "LevitForImageClassificationWithTeacher",
    large,
    image_size=64,
    hidden_sizes=[16, 24, 32],
    num_attention_heads=[2, 3, 4],
    depths=[1, 1, 2],
    key_dim=[4, 4, 4],
    mlp_ratio=[2, 2, 2],
    attention_ratio=[2, 2, 2],
    down_ops=[["Subsample", 4, 4, 4, 2, 2], ["Subsample", 4, 6, 4, 2, 2]],
)
staged(
    "FocalNetForImageClassification",
    image_size=32,
    embed_dim=8,
    depths=[1, 2, 1, 1],
    focal_levels=[2, 2, 2, 2],
    focal_windows=[3, 3, 3, 3],
    mlp_ratio=2.0,
)
staged(
    "SwiftFormerForImageClassification",
    large,
    depths=[1, 1, 2, 1],
    embed_dims=[8, 12, 16, 20],
    mlp_ratio=2,
    drop_path_rate=0.0,
)
staged(
    "GLPNForDepthEstimation",
    large,
    hidden_sizes=[8, 12, 16, 20],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 4, 5],
    mlp_ratios=[2, 2, 2, 2],
    decoder_hidden_size=10,
)
plain(
    "DPTForDepthEstimation",
    num_hidden_layers=4,
    backbone_out_indices=[0, 1, 2, 3],
    neck_hidden_sizes=[8, 12, 16, 20],
    fusion_hidden_size=10,
    reassemble_factors=[4, 2, 1, 0.5],
)
staged(
    "DepthAnythingForDepthEstimation",
    small,
    backbone_config={
        "model_type": "dinov2",
        **WIDTHS,
        "mlp_ratio": 2,
        "out_features": ["stage1", "stage2"],
        "reshape_hidden_states": False,
        "num_hidden_layers": 2,
    },
    reassemble_hidden_size=24,
    patch_size=4,
    neck_hidden_sizes=[8, 12],
    reassemble_factors=[2, 1],
    fusion_hidden_size=10,
    head_hidden_size=6,
)
staged(
    "UperNetForSemanticSegmentation",
    large,
    backbone_config={
        "model_type": "convnext",
        "hidden_sizes": [8, 12, 16, 20],
        "depths": [1, 1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    hidden_size=14,
    pool_scales=[1, 2],
    auxiliary_in_channels=16,
    auxiliary_channels=10,
)
staged(
    "DetrForObjectDetection",
    large,
    backbone_config={
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [12, 20, 28, 36],
        "depths": [1, 1, 1, 1],
        "out_features": ["stage4"],
    },
    use_timm_backbone=False,
    use_pretrained_backbone=False,
    backbone=None,
    d_model=24,
    encoder_layers=1,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=44,
    decoder_ffn_dim=36,
    num_queries=6,
)
staged(
    "ConditionalDetrForObjectDetection",
    large,
    backbone_config={
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [12, 20, 28, 36],
        "depths": [1, 1, 1, 1],
        "out_features": ["stage4"],
    },
    use_timm_backbone=False,
    use_pretrained_backbone=False,
    backbone=None,
    d_model=24,
    encoder_layers=1,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=44,
    decoder_ffn_dim=36,
    num_queries=6,
)
staged(
    "HGNetV2ForImageClassification",
    embedding_size=8,
    stem_channels=[3, 8, 12],
    stage_in_channels=[12, 16, 20, 24],
    stage_mid_channels=[6, 8, 10, 12],
    stage_out_channels=[16, 20, 24, 28],
    stage_num_blocks=[1, 1, 1, 1],
    stage_numb_of_layers=[2, 2, 2, 2],
    hidden_sizes=[16, 20, 24, 28],
    depths=[1, 1, 1, 1],
)
staged(
    "TextNetForImageClassification",
    hidden_sizes=[8, 12, 16, 20, 24],
    stem_out_channels=8,
    stem_kernel_size=3,
    conv_layer_kernel_sizes=[[[3, 3], [3, 1]], [[3, 3], [1, 3]], [[3, 3]], [[3, 1], [1, 3]]],
    conv_layer_strides=[[1, 2], [2, 1], [2], [2, 1]],
)
