"""Architectures of torchvision and timm, for machines on which these can be imported.

Small variants on small images; where a family has none, its own constructor with fewer or narrower
stages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.architectures.registry import Built, image, register

# Builder → size of the images.
TORCHVISION = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_large": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_0": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
}
SEGMENTATION = ("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large")
DETECTION = ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large")

# Builder → size of the images, and what makes it smaller.
_SMALL_VIT = {"img_size": 32, "embed_dim": 36, "depth": 2, "num_heads": 3}
TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "beit_base_patch16_224": (32, _SMALL_VIT),
    "cait_xxs24_224": (32, _SMALL_VIT),
    "convit_tiny": (32, {**_SMALL_VIT, "depth": 3, "local_up_to_layer": 2}),
    "convnext_atto": (64, {}),
    "convnextv2_atto": (64, {}),
    "cs3darknet_s": (64, {}),
    "davit_tiny": (64, {"embed_dims": (12, 24, 48, 96), "depths": (1, 1, 1, 1)}),
    "deit3_small_patch16_224": (32, _SMALL_VIT),
    "deit_tiny_patch16_224": (32, _SMALL_VIT),
    "dla46_c": (64, {}),
    "efficientnet_lite0": (64, {}),
    "efficientvit_b0": (64, {}),
    "eva02_tiny_patch14_224": (28, {**_SMALL_VIT, "img_size": 28}),
    "fasternet_t0": (64, {}),
    "fastvit_t8": (64, {}),
    "gernet_s": (64, {}),
    "ghostnet_050": (64, {}),
    "hgnetv2_b0": (64, {}),
    "hiera_tiny_224": (224, {"embed_dim": 24, "num_heads": 1, "stages": (1, 1, 2, 1)}),
    "inception_next_atto": (64, {}),
    "lcnet_050": (64, {}),
    "levit_128s": (224, {}),
    "mambaout_femto": (64, {}),
    "mixnet_s": (64, {}),
    "mobilenetv4_conv_small": (64, {}),
    "mobilevit_xxs": (64, {}),
    "mobilevitv2_050": (64, {}),
    "nf_regnet_b0": (64, {}),
    "pvt_v2_b0": (64, {}),
    "regnety_002": (64, {}),
    "repghostnet_050": (64, {}),
    "repvgg_a0": (64, {}),
    "repvit_m0_9": (64, {}),
    "resnest14d": (64, {}),
    "rexnet_100": (64, {}),
    "sequencer2d_s": (224, {"layers": (1, 1, 1, 1), "embed_dims": (24, 36, 36, 36)}),
    "shvit_s1": (64, {}),
    "skresnet18": (64, {}),
    "starnet_s050": (64, {}),
    "swiftformer_xs": (64, {}),
    "swin_tiny_patch4_window7_224": (
        56,
        {"img_size": 56, "embed_dim": 24, "depths": (2, 2), "num_heads": (3, 4)},
    ),
    "swinv2_tiny_window8_256": (
        64,
        {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (3, 4)},
    ),
    "swinv2_cr_tiny_224": (
        64,
        {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (3, 4)},
    ),
    "tiny_vit_5m_224": (64, {}),
    "tnt_s_patch16_224": (32, {"img_size": 32, "depth": 2}),
    "twins_svt_small": (64, {"depths": (1, 1, 2, 1)}),
    "vit_relpos_small_patch16_224": (32, _SMALL_VIT),
    "vit_small_patch16_dinov3": (32, _SMALL_VIT),
    "vit_so150m_patch16_reg4_map_256": (32, _SMALL_VIT),
    "vit_tiny_patch16_224": (32, _SMALL_VIT),
    "xcit_nano_12_p16_224": (32, {"depth": 2}),
}
# Class → size of the images and arguments, where the builder takes no other widths.
TIMM_CLASSES: dict[str, tuple[int, dict[str, Any]]] = {
    "convmixer.ConvMixer": (28, {"dim": 24, "depth": 3}),
    "focalnet.FocalNet": (64, {"embed_dim": 12, "depths": (1, 1, 2, 1)}),
    "mlp_mixer.MlpMixer": (
        32,
        {"img_size": 32, "patch_size": 8, "num_blocks": 2, "embed_dim": 36},
    ),
    "nest.Nest": (
        64,
        {
            "img_size": 64,
            "embed_dims": (24, 36, 48),
            "num_heads": (2, 3, 4),
            "depths": (1, 1, 2),
        },
    ),
}


def torchvision_model(name: str, size: int, **given: Any) -> Built:
    models = importlib.import_module("torchvision.models")
    return models.get_model(name, weights=None, num_classes=5, **given), (image(size=size),)


def timm_model(name: str, size: int, given: dict[str, Any]) -> Built:
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, num_classes=5, **given), (image(size=size),)


def timm_class(name: str, size: int, given: dict[str, Any]) -> Built:
    module, _, kind = name.partition(".")
    made = getattr(importlib.import_module(f"timm.models.{module}"), kind)
    return made(num_classes=5, **given), (image(size=size),)


def _of_torchvision(make: Callable[[Any], Built]) -> Callable[[Any], Built]:
    """Register what a function makes of `torchvision.models` under its own name."""

    def built() -> Built:
        return make(importlib.import_module("torchvision.models"))

    # RAFT makes coordinates in float32 and samples its pictures with them.
    dtype = torch.float32 if make.__name__.startswith("raft") else torch.float64
    register(f"torchvision.{make.__name__}", built, needs="torchvision", dtype=dtype)
    return make


@_of_torchvision
def googlenet(models: Any) -> Built:
    return models.googlenet(weights=None, num_classes=5, init_weights=False), (image(size=32),)


@_of_torchvision
def vgg11_bn(models: Any) -> Built:
    """The features of VGG-11; its classifier of 4096 features is narrowed."""
    model = models.vgg11_bn(weights=None, num_classes=5)
    model.classifier = nn.Sequential(
        nn.Linear(512 * 49, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 5)
    )
    return model, (image(size=32),)


@_of_torchvision
def swin_b(models: Any) -> Built:
    """The stages of Swin-B, a quarter as wide."""
    parts = {"patch_size": [4, 4], "embed_dim": 32, "depths": [2, 2, 18, 2], "num_classes": 5}
    more = {"num_heads": [4, 8, 16, 32], "window_size": [7, 7], "stochastic_depth_prob": 0.0}
    return models.SwinTransformer(**parts, **more), (image(size=64),)


@_of_torchvision
def swin_v2_s(models: Any) -> Built:
    """The stages of Swin V2-S, a quarter as wide."""
    kinds = models.swin_transformer
    model = models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2, 2, 18, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[8, 8],
        block=kinds.SwinTransformerBlockV2,
        downsample_layer=kinds.PatchMergingV2,
        num_classes=5,
    )
    return model, (image(size=64),)


@_of_torchvision
def vit_b(models: Any) -> Built:
    """The layers of ViT-B, narrower."""
    model = models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=3, hidden_dim=36, mlp_dim=50
    )
    return model, (image(size=32),)


@_of_torchvision
def maxvit(models: Any) -> Built:
    model = models.MaxVit(
        input_size=(64, 64),
        stem_channels=8,
        partition_size=2,
        block_channels=[12, 16, 24, 32],
        block_layers=[1, 1, 2, 1],
        head_dim=4,
        stochastic_depth_prob=0.0,
        num_classes=5,
    )
    return model, (image(size=64),)


@_of_torchvision
def raft_small(models: Any) -> Built:
    model = models.optical_flow.raft_small(weights=None)
    pictures = torch.rand(2, 2, 3, 128, 128) * 2 - 1
    return model, {"image1": pictures[0], "image2": pictures[1], "num_flow_updates": 2}


@_of_torchvision
def raft_large(models: Any) -> Built:
    model = models.optical_flow.raft_large(weights=None)
    pictures = torch.rand(2, 1, 3, 128, 128) * 2 - 1
    return model, {"image1": pictures[0], "image2": pictures[1], "num_flow_updates": 1}


@_of_torchvision
def retinanet_parts(models: Any) -> Built:
    """Backbone, feature pyramid and heads of RetinaNet; its boxes are picked by value."""
    detector = models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=5
    )

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = detector.backbone, detector.head

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(list(self.backbone(x).values()))

    return Parts(), (image(size=64),)


@_of_torchvision
def mvit_v2(models: Any) -> Built:
    kinds = models.video.mvit
    widths = [(1, 12, 12, 1), (1, 12, 24, 2), (2, 24, 24, 2)]
    blocks = [
        kinds.MSBlockConfig(
            num_heads=heads,
            input_channels=before,
            output_channels=after,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[1, stride, stride],
            stride_kv=[1, 2, 2],
        )
        for heads, before, after, stride in widths
    ]
    model = kinds.MViT(
        spatial_size=(32, 32),
        temporal_size=4,
        block_setting=blocks,
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=5,
    )
    return model, (torch.randn(2, 3, 4, 32, 32),)


@_of_torchvision
def swin3d(models: Any) -> Built:
    model = models.video.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 3],
        window_size=[2, 3, 3],
        num_classes=5,
    )
    return model, (torch.randn(2, 3, 4, 24, 24),)


@_of_torchvision
def r2plus1d(models: Any) -> Built:
    """The stem and blocks of R(2+1)D-18 and MC3-18, one block a stage."""
    kinds = models.video.resnet
    model = kinds.VideoResNet(
        block=kinds.BasicBlock,
        conv_makers=[kinds.Conv2Plus1D, kinds.Conv3DSimple, kinds.Conv3DNoTemporal] * 2,
        layers=[1, 1, 1, 1],
        stem=kinds.R2Plus1dStem,
        num_classes=5,
    )
    return model, (torch.randn(1, 3, 4, 32, 32),)


def segmentation(name: str) -> Built:
    return torchvision_model(name, 64, weights_backbone=None)


def detection(name: str) -> Built:
    """A detector whole: it picks boxes by value, and says so."""
    model, _ = torchvision_model(name, 64, weights_backbone=None)
    return model, ([torch.rand(3, 96, 96)],)


for _name, _size in TORCHVISION.items():
    register(
        f"torchvision.{_name}",
        lambda name=_name, size=_size: torchvision_model(name, size),
        needs="torchvision",
    )
for _name in SEGMENTATION:
    register(f"torchvision.{_name}", lambda name=_name: segmentation(name), needs="torchvision")
for _name in DETECTION:
    register(
        f"torchvision.{_name}",
        lambda name=_name: detection(name),
        needs="torchvision",
        dtype=torch.float32,
        traits="refused",
    )
for _make, _table in ((timm_model, TIMM), (timm_class, TIMM_CLASSES)):
    for _name, (_size, _given) in _table.items():
        register(
            f"timm.{_name}",
            lambda make=_make, name=_name, size=_size, given=_given: make(name, size, given),
            needs="timm",
        )
