"""Convolutional classifiers, defined here after their papers."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from tests.architectures.blocks import (
    Add,
    Cat,
    Lambda,
    SqueezeExcitation,
    classifier,
    conv,
)
from tests.architectures.registry import Built, architecture, image, register


@architecture
def alexnet() -> Built:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2),
        nn.ReLU(),
        nn.LocalResponseNorm(3),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(12, 10, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
    )
    head = nn.Sequential(
        nn.Flatten(), nn.Dropout(), nn.Linear(90, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5)
    )
    return nn.Sequential(OrderedDict(features=features, classifier=head)), (image(),)


def vgg(norm: bool) -> Built:
    layers: list[nn.Module] = []
    channels = 3
    for width in (6, 8, 0, 10, 12, 0, 14, 0):
        if width:
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers.extend([nn.BatchNorm2d(width)] if norm else [])
            layers.append(nn.ReLU(inplace=True))
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(14 * 16, 20), nn.ReLU(inplace=True), nn.Linear(20, 5)]
    return nn.Sequential(nn.Sequential(*layers), nn.Sequential(*head)), (image(),)


register("vgg", lambda: vgg(False))
register("vgg_bn", lambda: vgg(True))


def basic(inputs: int, outputs: int, stride: int, option: str) -> nn.Module:
    """The basic block of He et al. 2016 with the shortcut of option A or B."""
    body = nn.Sequential(
        conv(inputs, outputs, 3, stride), conv(outputs, outputs, act=nn.Identity())
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1 and option == "A":
        pad = outputs - inputs
        shortcut = Lambda(
            lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad // 2, pad - pad // 2))
        )
    elif stride > 1 or inputs != outputs:
        shortcut = conv(inputs, outputs, 1, stride, act=nn.Identity())
    return Add(body, shortcut, nn.ReLU())


def cifar_resnet(option: str) -> Built:
    layers = [conv(3, 6), basic(6, 6, 1, option), basic(6, 6, 1, option)]
    layers += [basic(6, 10, 2, option), basic(10, 10, 1, option), basic(10, 18, 2, option)]
    return nn.Sequential(*layers, classifier(18)), (image(size=16),)


register("resnet_cifar_option_a", lambda: cifar_resnet("A"))
register("resnet_cifar_option_b", lambda: cifar_resnet("B"))


class PreAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        return kept + self.conv2(F.relu(self.bn2(self.conv1(y))))


@architecture
def resnet_preactivation() -> Built:
    layers = [nn.Conv2d(3, 8, 3, padding=1, bias=False), PreAct(8, 8), PreAct(8, 12, 2)]
    layers += [PreAct(12, 12), PreAct(12, 18, 2), nn.BatchNorm2d(18), nn.ReLU()]
    return nn.Sequential(*layers, classifier(18)), (image(size=16),)


@architecture
def wide_resnet() -> Built:
    class Wide(PreAct):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.bn1(x))
            kept = x if self.shortcut is None else self.shortcut(y)
            y = F.dropout(F.relu(self.bn2(self.conv1(y))), 0.3, self.training)
            return kept + self.conv2(y)

    layers = [nn.Conv2d(3, 6, 3, padding=1, bias=False), Wide(6, 18), Wide(18, 18)]
    layers += [Wide(18, 30, 2), nn.BatchNorm2d(30), nn.ReLU()]
    return nn.Sequential(*layers, classifier(30)), (image(size=16),)


def bottleneck(
    inputs: int, middle: int, outputs: int, stride: int = 1, groups: int = 1, se: int = 0
) -> nn.Module:
    body = [conv(inputs, middle, 1), conv(middle, middle, 3, stride, groups)]
    body.append(conv(middle, outputs, 1, act=nn.Identity()))
    if se:
        body.append(SqueezeExcitation(outputs, se))
    same = inputs == outputs and stride == 1
    shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride, act=nn.Identity())
    return Add(nn.Sequential(*body), shortcut, nn.ReLU())


@architecture
def resnext() -> Built:
    layers = [conv(3, 8), bottleneck(8, 12, 20, groups=4), bottleneck(20, 12, 20, groups=4)]
    layers += [bottleneck(20, 16, 28, 2, groups=4)]
    return nn.Sequential(*layers, classifier(28)), (image(size=16),)


@architecture
def senet() -> Built:
    layers = [conv(3, 8), bottleneck(8, 6, 20, se=5), bottleneck(20, 6, 20, se=5)]
    layers += [bottleneck(20, 10, 28, 2, se=7)]
    return nn.Sequential(*layers, classifier(28)), (image(size=16),)


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int, bottleneck_size: int) -> None:
        super().__init__()
        middle = growth * bottleneck_size
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, middle, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, growth, 3, padding=1, bias=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, layers: int, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(inputs + i * growth, growth, 2) for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


@architecture
def densenet_121() -> Built:
    """The layout of DenseNet-121, blocks of 6, 12, 24 and 16 layers, with a growth of 3."""
    layers: list[nn.Module] = [conv(3, 6, 7, 2), nn.MaxPool2d(3, 2, 1)]
    width = 6
    for i, depth in enumerate((6, 12, 24, 16)):
        layers.append(DenseBlock(depth, width, 3))
        width += depth * 3
        if i < 3:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1)]
            layers.append(nn.AvgPool2d(2))
            width //= 2
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, classifier(width)), (image(),)


@architecture
def densenet() -> Built:
    layers = [conv(3, 6), DenseBlock(3, 6, 4), nn.BatchNorm2d(18), nn.ReLU()]
    layers += [nn.Conv2d(18, 9, 1), nn.AvgPool2d(2), DenseBlock(2, 9, 5), nn.BatchNorm2d(19)]
    return nn.Sequential(*layers, nn.ReLU(), classifier(19)), (image(size=16),)


def fire(inputs: int, squeeze: int, one: int, three: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, squeeze, 1),
        nn.ReLU(),
        Cat(
            nn.Sequential(nn.Conv2d(squeeze, one, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(squeeze, three, 3, padding=1), nn.ReLU()),
        ),
    )


@architecture
def squeezenet() -> Built:
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [fire(8, 4, 6, 7), fire(13, 5, 8, 9), nn.Dropout(), nn.Conv2d(17, 5, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), (image(),)


def inception(inputs: int, a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> nn.Module:
    return Cat(
        conv(inputs, a, 1),
        nn.Sequential(conv(inputs, b[0], 1), conv(b[0], b[1])),
        nn.Sequential(conv(inputs, c[0], 1), conv(c[0], c[1], 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, d, 1)),
    )


class GoogLeNet(nn.Module):
    """With its auxiliary classifier as a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 7, 2)
        self.a = inception(8, 4, (5, 6), (3, 4), 5)
        self.b = inception(19, 6, (5, 8), (4, 5), 7)
        self.aux, self.head = classifier(19), classifier(26)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.a(F.max_pool2d(self.stem(x), 3, 2, 1))
        return self.head(self.b(x)), self.aux(x)


@architecture
def googlenet() -> Built:
    return GoogLeNet(), (image(),)


@architecture
def inception_v3() -> Built:
    """Factorised 1×n and n×1 kernels, and a branch that forks once more."""

    def rectangle(inputs: int, outputs: int, height: int, width: int) -> nn.Module:
        layer = nn.Conv2d(
            inputs, outputs, (height, width), padding=(height // 2, width // 2), bias=False
        )
        return nn.Sequential(layer, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU())

    block = Cat(
        conv(8, 5, 1),
        nn.Sequential(conv(8, 4, 1), rectangle(4, 6, 1, 7), rectangle(6, 7, 7, 1)),
        nn.Sequential(conv(8, 4, 1), Cat(rectangle(4, 5, 1, 3), rectangle(4, 6, 3, 1))),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(8, 6, 1)),
    )
    reduction = Cat(conv(29, 9, 3, 2), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(conv(3, 8, 3, 2), block, reduction, classifier(38)), (image(),)


@architecture
def xception() -> Built:
    def separable(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def block(inputs: int, outputs: int) -> nn.Module:
        body = [separable(inputs, outputs), separable(outputs, outputs), nn.MaxPool2d(3, 2, 1)]
        return Add(nn.Sequential(*body), conv(inputs, outputs, 1, 2, act=nn.Identity()))

    layers = [conv(3, 8), block(8, 12), block(12, 18), separable(18, 22), nn.ReLU()]
    return nn.Sequential(*layers, classifier(22)), (image(),)


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleUnit(nn.Module):
    """ShuffleNet V2: half of the channels pass, or both branches stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, outputs // 2
        right = inputs if stride > 1 else half
        linear = nn.Identity()
        if stride > 1:
            down = conv(inputs, inputs, 3, 2, inputs, act=linear)
            self.left: nn.Module = nn.Sequential(down, conv(inputs, half, 1))
        self.right = nn.Sequential(
            conv(right, half, 1), conv(half, half, 3, stride, half, act=linear), conv(half, half, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            y = torch.cat([self.left(x), self.right(x)], 1)
        else:
            a, b = x.chunk(2, 1)
            y = torch.cat([a, self.right(b)], 1)
        return shuffle(y, 2)


@architecture
def shufflenet_v2() -> Built:
    layers = [conv(3, 8, 3, 2), ShuffleUnit(8, 16, 2), ShuffleUnit(16, 16, 1)]
    layers += [ShuffleUnit(16, 16, 1), ShuffleUnit(16, 24, 2), ShuffleUnit(24, 24, 1)]
    return nn.Sequential(*layers, conv(24, 30, 1), classifier(30)), (image(),)


@architecture
def shufflenet_v1() -> Built:
    def unit(inputs: int, middle: int) -> nn.Module:
        body = nn.Sequential(
            conv(inputs, middle, 1, groups=3),
            Lambda(lambda x: shuffle(x, 3)),
            conv(middle, middle, 3, 1, middle, act=nn.Identity()),
            conv(middle, inputs, 1, groups=3, act=nn.Identity()),
        )
        return Add(body, None, nn.ReLU())

    layers = [conv(3, 12, 3, 2), unit(12, 9), unit(12, 6)]
    return nn.Sequential(*layers, classifier(12)), (image(),)


def inverted(
    inputs: int, middle: int, outputs: int, stride: int = 1, se: int = 0, act: type = nn.ReLU
) -> nn.Module:
    """Inverted residual of MobileNetV2 and V3."""
    layers: list[nn.Module] = []
    if middle != inputs:
        layers.append(conv(inputs, middle, 1, act=act()))
    layers.append(conv(middle, middle, 3, stride, middle, act=act()))
    if se:
        layers.append(SqueezeExcitation(middle, se, nn.Hardsigmoid()))
    layers.append(conv(middle, outputs, 1, act=nn.Identity()))
    body = nn.Sequential(*layers)
    return Add(body) if inputs == outputs and stride == 1 else body


@architecture
def mobilenet_v3() -> Built:
    layers = [conv(3, 8, 3, 2, act=nn.Hardswish()), inverted(8, 8, 8, se=4)]
    layers += [inverted(8, 20, 12, 2), inverted(12, 26, 12), inverted(12, 30, 18, 2, 7)]
    layers += [inverted(18, 38, 18, 1, 9, nn.Hardswish), conv(18, 34, 1, act=nn.Hardswish())]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(34, 28), nn.Hardswish()]
    return nn.Sequential(*layers, *head, nn.Dropout(0.2), nn.Linear(28, 5)), (image(),)


@architecture
def mobilenet_v2() -> Built:
    layers = [conv(3, 8, 3, 2, act=nn.ReLU6()), inverted(8, 8, 6, act=nn.ReLU6)]
    layers += [inverted(6, 20, 10, 2, act=nn.ReLU6), inverted(10, 26, 10, act=nn.ReLU6)]
    return nn.Sequential(*layers, conv(10, 30, 1, act=nn.ReLU6()), classifier(30)), (image(),)


@architecture
def mnasnet() -> Built:
    layers = [conv(3, 8, 3, 2), inverted(8, 8, 6), inverted(6, 18, 10, 2, 5)]
    layers += [inverted(10, 30, 10, 1, 5), inverted(10, 34, 14, 2)]
    return nn.Sequential(*layers, conv(14, 30, 1), classifier(30)), (image(),)


@architecture
def efficientnet_v2() -> Built:
    def fused(inputs: int, middle: int, outputs: int, stride: int = 1) -> nn.Module:
        body = nn.Sequential(
            conv(inputs, middle, 3, stride, act=nn.SiLU()),
            conv(middle, outputs, 1, act=nn.Identity()),
        )
        return Add(body) if inputs == outputs and stride == 1 else body

    def mb(inputs: int, middle: int, outputs: int, stride: int, se: int) -> nn.Module:
        body = nn.Sequential(
            conv(inputs, middle, 1, act=nn.SiLU()),
            conv(middle, middle, 3, stride, middle, act=nn.SiLU()),
            SqueezeExcitation(middle, se),
            conv(middle, outputs, 1, act=nn.Identity()),
        )
        return Add(body) if inputs == outputs and stride == 1 else body

    layers = [conv(3, 8, 3, 2, act=nn.SiLU()), fused(8, 20, 8), fused(8, 20, 12, 2)]
    layers += [mb(12, 30, 18, 2, 4), mb(18, 38, 18, 1, 5), conv(18, 34, 1, act=nn.SiLU())]
    return nn.Sequential(*layers, classifier(34)), (image(),)


class Ghost(nn.Module):
    """Half of the channels are cheap transforms of the other half, cut to size."""

    def __init__(self, inputs: int, outputs: int, act: bool = True) -> None:
        super().__init__()
        self.outputs, half = outputs, (outputs + 1) // 2
        kind = nn.ReLU() if act else nn.Identity()
        self.primary = conv(inputs, half, 1, act=kind)
        self.cheap = conv(half, half, 3, 1, half, act=kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.primary(x)
        return torch.cat([a, self.cheap(a)], 1)[:, : self.outputs]


@architecture
def ghostnet() -> Built:
    def unit(width: int, middle: int, se: int) -> nn.Module:
        body = [Ghost(width, middle), SqueezeExcitation(middle, se, nn.Hardsigmoid())]
        return Add(nn.Sequential(*body, Ghost(middle, width, False)))

    layers = [conv(3, 10, 3, 2), unit(10, 18, 4), unit(10, 22, 6), conv(10, 26, 1)]
    return nn.Sequential(*layers, classifier(26)), (image(),)


class RepVGG(nn.Module):
    """Three branches of one input: 3×3, 1×1 and batch norm of the identity."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.three = conv(inputs, outputs, 3, stride, act=nn.Identity())
        self.one = conv(inputs, outputs, 1, stride, act=nn.Identity())
        same = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(inputs) if same else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.three(x) + self.one(x)
        return F.relu(y if self.identity is None else y + self.identity(x))


@architecture
def repvgg() -> Built:
    layers = [RepVGG(3, 8, 2), RepVGG(8, 8), RepVGG(8, 14, 2), RepVGG(14, 14)]
    return nn.Sequential(*layers, classifier(14)), (image(),)


@architecture
def convmixer() -> Built:
    def layer(width: int) -> nn.Module:
        spatial = [nn.Conv2d(width, width, 5, groups=width, padding="same"), nn.GELU()]
        mix = [nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)]
        return nn.Sequential(Add(nn.Sequential(*spatial, nn.BatchNorm2d(width))), *mix)

    stem = [nn.Conv2d(3, 14, 4, 4), nn.GELU(), nn.BatchNorm2d(14)]
    return nn.Sequential(*stem, layer(14), layer(14), classifier(14)), (image(),)


class Res2(nn.Module):
    """Res2Net: splits of a middle width, each fed by the one before."""

    def __init__(self, width: int, split: int) -> None:
        super().__init__()
        self.reduce = conv(width, 4 * split, 1)
        self.steps = nn.ModuleList(conv(split, split) for _ in range(3))
        self.expand = conv(4 * split, width, 1, act=nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.reduce(x).chunk(4, 1)
        done = [parts[0]]
        for part, step in zip(parts[1:], self.steps, strict=True):
            done.append(step(part + done[-1] if len(done) > 1 else part))
        return F.relu(x + self.expand(torch.cat(done, 1)))


@architecture
def res2net() -> Built:
    layers = [conv(3, 14, 3, 2), Res2(14, 4), Res2(14, 5)]
    return nn.Sequential(*layers, classifier(14)), (image(),)


class Selective(nn.Module):
    """SKNet: a softmax over branches, channel by channel."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, width), conv(width, width, 5)
        self.reduce = nn.Linear(width, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, width) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.stack([self.a(x), self.b(x)], 1)
        s = F.relu(self.reduce(branches.sum(1).mean((2, 3))))
        weights = torch.stack([head(s) for head in self.heads], 1).softmax(1)
        return (branches * weights[..., None, None]).sum(1)


@architecture
def sknet() -> Built:
    layers = [conv(3, 10, 3, 2), Add(Selective(10, 6), None, nn.ReLU()), conv(10, 14, 3, 2)]
    return nn.Sequential(*layers, Selective(14, 7), classifier(14)), (image(),)


class CBAM(nn.Module):
    """Channel attention, then spatial attention from mean and maximum over channels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * gate[:, :, None, None]
        view = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(view))


@architecture
def cbam() -> Built:
    layers = [conv(3, 10, 3, 2), CBAM(10, 4), conv(10, 14), CBAM(14, 5)]
    return nn.Sequential(*layers, classifier(14)), (image(),)


class EfficientChannelAttention(nn.Module):
    """ECA: a convolution along the channels, which ties them to their order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.conv(x.mean((2, 3))[:, None]).transpose(1, 2)[..., None]
        return x * torch.sigmoid(s)


@architecture
def eca_net() -> Built:
    layers = [conv(3, 10, 3, 2), EfficientChannelAttention(), conv(10, 14), conv(14, 12)]
    return nn.Sequential(*layers, classifier(12)), (image(),)


class HighResolution(nn.Module):
    """HRNet: two resolutions that exchange by strided convolution and by upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 3, 2)
        self.down = conv(8, 12, 3, 2)
        self.high, self.low = basic(8, 8, 1, "B"), basic(12, 12, 1, "B")
        self.to_low = conv(8, 12, 3, 2, act=nn.Identity())
        self.to_high = conv(12, 8, 1, act=nn.Identity())
        self.head = nn.Conv2d(20, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        high, low = self.high(x), self.low(self.down(x))
        up = F.interpolate(self.to_high(low), size=high.shape[-2:], mode="bilinear")
        high, low = F.relu(high + up), F.relu(low + self.to_low(high))
        low = F.interpolate(low, size=high.shape[-2:], mode="nearest")
        return self.head(torch.cat([high, low], 1))


@architecture
def hrnet() -> Built:
    return HighResolution(), (image(),)


class StandardConv(nn.Conv2d):
    """Weight standardisation, as in NFNet and BiT."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight
        var, mean = torch.var_mean(w, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(
            x, (w - mean) * torch.rsqrt(var + 1e-6), self.bias, self.stride, self.padding
        )


@architecture
def weight_standardised_groupnorm_resnet() -> Built:
    def unit(width: int, groups: int) -> nn.Module:
        body = [StandardConv(width, width, 3, padding=1), nn.GroupNorm(groups, width), nn.ReLU()]
        return Add(nn.Sequential(*body, StandardConv(width, width, 3, padding=1)))

    layers = [StandardConv(3, 12, 3, 2, 1), unit(12, 4), StandardConv(12, 18, 3, 2, 1)]
    return nn.Sequential(*layers, unit(18, 3), classifier(18)), (image(),)


class DualPath(nn.Module):
    """DPN: one convolution whose output is split into a residual and a dense part."""

    def __init__(self, residual: int, dense: int, growth: int, middle: int) -> None:
        super().__init__()
        self.residual = residual
        self.body = nn.Sequential(
            conv(residual + dense, middle, 1), nn.Conv2d(middle, residual + growth, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, r = self.body(x), self.residual
        return torch.cat([x[:, :r] + y[:, :r], x[:, r:], y[:, r:]], 1)


@architecture
def dual_path_network() -> Built:
    layers = [conv(3, 15, 3, 2), DualPath(10, 5, 3, 9), DualPath(10, 8, 4, 7)]
    return nn.Sequential(*layers, nn.BatchNorm2d(22), nn.ReLU(), classifier(22)), (image(),)


@architecture
def maxout_network() -> Built:
    """Goodfellow et al. 2013: the maximum over groups of two channels."""
    maxout = Lambda(lambda x: x.unflatten(1, (-1, 2)).amax(2))
    layers = [nn.Conv2d(3, 16, 3, padding=1), maxout, nn.Conv2d(8, 20, 3, padding=1), maxout]
    return nn.Sequential(*layers, classifier(10)), (image(size=8),)


@architecture
def channels_last_flatten() -> Built:
    """NHWC: channels are the last dimension when the image is flattened."""
    layers = [conv(3, 8, 3, 2), conv(8, 10, 3, 2), Lambda(lambda x: x.permute(0, 2, 3, 1))]
    layers += [nn.Flatten(), nn.Linear(10 * 16, 14), nn.ReLU(), nn.Linear(14, 5)]
    return nn.Sequential(*layers), (image(size=16),)


@architecture
def c3d() -> Built:
    layers = [nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2)]
    layers += [nn.Conv3d(6, 10, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(10, 8, (3, 1, 1))]
    layers += [nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*layers), (torch.randn(2, 3, 8, 8, 8),)
