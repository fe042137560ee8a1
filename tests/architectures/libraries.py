"""Architectures of torchvision and timm, for machines on which these can be imported."""

from __future__ import annotations

import importlib

from tests.architectures.registry import Built, image, register

TORCHVISION = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 224,
}
TIMM = {
    "coatnet_nano_rw_224": 224,
    "deit_tiny_patch16_224": 224,
    "eca_resnet33ts": 64,
    "gmlp_ti16_224": 224,
    "mixer_s32_224": 224,
    "mobilenetv4_conv_small": 64,
    "nf_regnet_b0": 64,
    "resmlp_12_224": 224,
    "tf_efficientnetv2_b0": 64,
    "vit_tiny_patch16_224": 224,
    "xcit_nano_12_p16_224": 224,
}


def torchvision_model(name: str, size: int) -> Built:
    models = importlib.import_module("torchvision.models")
    return models.get_model(name, weights=None, num_classes=5), (image(size=size),)


def timm_model(name: str, size: int) -> Built:
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, num_classes=5), (image(size=size),)


for _name, _size in TORCHVISION.items():
    register(
        f"torchvision.{_name}",
        lambda name=_name, size=_size: torchvision_model(name, size),
        needs="torchvision",
    )
for _name, _size in TIMM.items():
    register(f"timm.{_name}", lambda name=_name, size=_size: timm_model(name, size), needs="timm")
