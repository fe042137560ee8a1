"""Segmentation, detection and restoration networks, defined here after their papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.architectures.blocks import Add, Cat, Lambda, SqueezeExcitation, conv
from tests.architectures.registry import Built, architecture, image, register


def double(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(conv(inputs, outputs), conv(outputs, outputs))


class UNet(nn.Module):
    """Ronneberger et al. 2015; up by transposed convolution or by interpolation."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        widths = (6, 10, 14)
        self.down = nn.ModuleList(
            double(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.middle = double(14, 18)
        ups, merges, below = [], [], 18
        for width in reversed(widths):
            if transposed:
                ups.append(nn.ConvTranspose2d(below, width + 1, 2, 2))
                below = width + 1
            else:
                ups.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
            merges.append(double(width + below, width))
            below = width
        self.up, self.merge = nn.ModuleList(ups), nn.ModuleList(merges)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


register("unet_transposed", lambda: (UNet(True), (image(size=16),)))
register("unet_upsample", lambda: (UNet(False), (image(size=16),)))


class VNet(nn.Module):
    """U-Net in 3-D with residual sums, instance norm and PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = self.block(1, 6)
        self.down = nn.Conv3d(6, 10, 2, 2)
        self.middle = Add(self.block(10, 10))
        self.up = nn.ConvTranspose3d(10, 6, 2, 2)
        self.leave = self.block(12, 8)
        self.head = nn.Conv3d(8, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Module:
        layer = nn.Conv3d(inputs, outputs, 3, padding=1)
        return nn.Sequential(layer, nn.InstanceNorm3d(outputs, affine=True), nn.PReLU(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        y = self.up(self.middle(self.down(x)))
        return self.head(self.leave(torch.cat([x, y], 1)))


@architecture
def vnet_3d() -> Built:
    return VNet(), (torch.randn(2, 1, 8, 8, 8),)


class AttentionUNet(nn.Module):
    """Oktay et al. 2018: skips gated by the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = double(3, 8), double(8, 12)
        self.up = nn.ConvTranspose2d(12, 8, 4, 2, 1)
        self.of_skip, self.of_gate = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 1)
        self.psi = nn.Conv2d(5, 1, 1)
        self.merge, self.head = double(16, 10), nn.Conv2d(10, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.a(x)
        up = self.up(self.b(F.max_pool2d(skip, 2)))
        gate = torch.sigmoid(self.psi(F.relu(self.of_skip(skip) + self.of_gate(up))))
        return self.head(self.merge(torch.cat([skip * gate, up], 1)))


@architecture
def attention_unet() -> Built:
    return AttentionUNet(), (image(size=16),)


class DeepLab(nn.Module):
    """Atrous spatial pyramid pooling with an image-level branch, and a decoder (v3+)."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = conv(3, 8, 3, 2), nn.Sequential(conv(8, 12, 3, 2), conv(12, 16))
        rates = [
            nn.Sequential(
                nn.Conv2d(16, 6 + r, 3, padding=r, dilation=r), nn.BatchNorm2d(6 + r), nn.ReLU()
            )
            for r in (1, 2, 3)
        ]
        self.aspp = nn.ModuleList([conv(16, 6, 1), *rates])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 5, 1), nn.ReLU())
        self.project = conv(6 + 7 + 8 + 9 + 5, 14, 1)
        self.reduce, self.head = conv(8, 4, 1), nn.Sequential(conv(18, 12), nn.Conv2d(12, 5, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.low(x)
        y = self.high(low)
        size = y.shape[-2:]
        pooled = F.interpolate(self.pool(y), size=size, mode="bilinear", align_corners=False)
        y = self.project(torch.cat([*(branch(y) for branch in self.aspp), pooled], 1))
        y = F.interpolate(y, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.head(torch.cat([self.reduce(low), y], 1))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


@architecture
def deeplab() -> Built:
    return DeepLab(), (image(size=16),)


class PyramidPooling(nn.Module):
    """PSPNet."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 10, 3, 2), conv(10, 12))
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), conv(12, 3 + n, 1)) for n in (1, 2, 4)
        )
        self.head = nn.Sequential(conv(12 + 4 + 5 + 7, 14), nn.Conv2d(14, 5, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        parts = [F.interpolate(p(y), size=y.shape[-2:], mode="nearest") for p in self.pools]
        return self.head(torch.cat([y, *parts], 1))


@architecture
def pspnet() -> Built:
    return PyramidPooling(), (image(size=16),)


class FeaturePyramid(nn.Module):
    """FPN with a head shared by all levels, as in RetinaNet; a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 3, 2), conv(8, 12, 3, 2), conv(12, 18, 3, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(w, 10, 1) for w in (8, 12, 18))
        self.smooth = nn.ModuleList(nn.Conv2d(10, 10, 3, padding=1) for _ in range(3))
        self.tower = nn.Sequential(nn.Conv2d(10, 14, 3, padding=1), nn.GroupNorm(2, 14), nn.ReLU())
        self.classes, self.boxes = nn.Conv2d(14, 6, 3, padding=1), nn.Conv2d(14, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
        towers = [self.tower(s(y)) for s, y in zip(self.smooth, levels, strict=True)]
        return {
            "classes": torch.cat([self.classes(t).flatten(2) for t in towers], 2),
            "boxes": torch.cat([self.boxes(t).flatten(2) for t in towers], 2),
        }


@architecture
def retinanet() -> Built:
    return FeaturePyramid(), (image(),)


class CrossStagePartial(nn.Module):
    """C2f of YOLOv8: split, a chain of bottlenecks, all of them concatenated."""

    def __init__(self, inputs: int, outputs: int, hidden: int, n: int) -> None:
        super().__init__()
        self.cv1 = conv(inputs, 2 * hidden, 1, act=nn.SiLU())
        self.cv2 = conv((2 + n) * hidden, outputs, 1, act=nn.SiLU())
        self.m = nn.ModuleList(Add(conv(hidden, hidden, act=nn.SiLU())) for _ in range(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class Yolo(nn.Module):
    """Focus stem, C2f stages, SPPF, a path down and up, three scales of outputs."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.SiLU()
        self.stem = conv(12, 8, act=act)
        self.p3 = nn.Sequential(conv(8, 12, 3, 2, act=act), CrossStagePartial(12, 12, 5, 2))
        self.p4 = nn.Sequential(conv(12, 18, 3, 2, act=act), CrossStagePartial(18, 18, 7, 1))
        self.squeeze, self.expand = conv(18, 9, 1, act=act), conv(36, 18, 1, act=act)
        self.top = CrossStagePartial(30, 14, 6, 1)
        self.back = conv(14, 10, 3, 2, act=act)
        self.bottom = CrossStagePartial(28, 16, 6, 1)
        self.heads = nn.ModuleList(nn.Conv2d(w, 3 * 9, 1) for w in (14, 16))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        corners = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        p3 = self.p3(self.stem(torch.cat(corners, 1)))
        p4 = self.squeeze(self.p4(p3))
        pools = [p4]
        for _ in range(3):
            pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
        p4 = self.expand(torch.cat(pools, 1))
        top = self.top(torch.cat([F.interpolate(p4, scale_factor=2.0), p3], 1))
        bottom = self.bottom(torch.cat([self.back(top), p4], 1))
        found = []
        for head, y in zip(self.heads, (top, bottom), strict=True):
            y = head(y)
            b, _, h, w = y.shape
            found.append(y.view(b, 3, 9, h, w).permute(0, 1, 3, 4, 2))
        return found


@architecture
def yolo() -> Built:
    return Yolo(), (image(),)


class Hourglass(nn.Module):
    """Stacked hourglass: recursive down and up with skips, heads in the middle and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12, 3, 2)
        self.skip, self.low, self.high = conv(12, 12), conv(12, 12), conv(12, 12)
        self.first, self.second = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 4, 1)
        self.remap = nn.Conv2d(4, 12, 1)
        self.last = conv(12, 12)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        down = self.high(self.low(F.max_pool2d(x, 2)))
        y = self.skip(x) + F.interpolate(down, scale_factor=2.0)
        heat = self.first(y)
        y = self.last(x + y + self.remap(heat))
        return heat, self.second(y)


@architecture
def stacked_hourglass() -> Built:
    return Hourglass(), (image(),)


@architecture
def espcn() -> Built:
    layers = [nn.Conv2d(1, 10, 5, padding=2), nn.Tanh(), nn.Conv2d(10, 8, 3, padding=1), nn.Tanh()]
    layers += [nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3)]
    return nn.Sequential(*layers), (torch.randn(2, 1, 8, 8),)


@architecture
def edsr() -> Built:
    """Pixel shuffle in the middle of the network, twice."""

    def unit() -> nn.Module:
        layers = [nn.Conv2d(10, 14, 3, padding=1), nn.ReLU(), nn.Conv2d(14, 10, 3, padding=1)]
        return Add(nn.Sequential(*layers, Lambda(lambda x: 0.1 * x)))

    up = [nn.Conv2d(10, 32, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(8, 24, 3, padding=1)]
    layers = [nn.Conv2d(3, 10, 3, padding=1), Add(nn.Sequential(unit(), unit()))]
    return nn.Sequential(*layers, *up, nn.PixelShuffle(2), nn.Conv2d(6, 3, 3, padding=1)), (
        image(size=8),
    )


@architecture
def rcan() -> Built:
    def unit() -> nn.Module:
        layers = [nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1)]
        return Add(nn.Sequential(*layers, SqueezeExcitation(12, 4)))

    group = Add(nn.Sequential(unit(), unit(), nn.Conv2d(12, 12, 3, padding=1)))
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), group, nn.Conv2d(12, 3, 3, padding=1)), (
        image(size=8),
    )


@architecture
def pixel_unshuffle_denoiser() -> Built:
    """FFDNet: work at half the resolution."""
    layers = [nn.PixelUnshuffle(2), nn.Conv2d(12, 10, 3, padding=1), nn.ReLU()]
    layers += [conv(10, 14), nn.PixelUnshuffle(2), conv(56, 16), nn.PixelShuffle(2)]
    layers += [nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2)]
    return nn.Sequential(*layers), (image(size=8),)


class SimpleGateBlock(nn.Module):
    """NAFNet: layer norm over channels, a gate of two halves, scaled residuals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.expand, self.project = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attend = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.depthwise(self.expand(self.norm(x))).chunk(2, 1)
        y = a * b
        y = y * self.attend(y.mean((2, 3), keepdim=True))
        return x + self.beta * self.project(y)


@architecture
def nafnet() -> Built:
    layers = [nn.Conv2d(3, 8, 3, padding=1), SimpleGateBlock(8), nn.Conv2d(8, 12, 2, 2)]
    layers += [SimpleGateBlock(12), nn.Conv2d(12, 32, 1), nn.PixelShuffle(2), SimpleGateBlock(8)]
    return nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1)), (image(size=8),)


@architecture
def ssd() -> Built:
    """Heads of two scales, laid out as (batch, boxes, values)."""

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 10, 3, 2), conv(10, 14, 3, 2)
            self.heads = nn.ModuleList(nn.Conv2d(w, 2 * 7, 3, padding=1) for w in (10, 14))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a = self.a(x)
            found = [h(y) for h, y in zip(self.heads, (a, self.b(a)), strict=True)]
            flat = torch.cat([y.permute(0, 2, 3, 1).reshape(len(y), -1, 7) for y in found], 1)
            return flat[..., :3].softmax(-1), flat[..., 3:]

    return Detector(), (image(size=16),)


@architecture
def hypercolumn_concatenation() -> Built:
    """All stages upsampled to one size and concatenated."""

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = conv(3, 6), conv(6, 9, 3, 2), conv(9, 11, 3, 2)
            self.head = Cat(nn.Conv2d(26, 3, 1), nn.Conv2d(26, 2, 3, padding=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.a(x)
            b = self.b(a)
            c = self.c(b)
            up = [F.interpolate(y, size=a.shape[-2:], mode="bilinear") for y in (b, c)]
            return self.head(torch.cat([a, *up], 1))

    return Columns(), (image(size=16),)
