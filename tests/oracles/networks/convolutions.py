"""Convolutions of every rank and kind, pooling, resampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.oracles.networks.cases import Model, case, picture, sequence

Pair = tuple[nn.Module, Any]


def between(x: torch.Tensor, *middle: nn.Module) -> Pair:
    """Layers, the mean over space, a linear layer."""
    body = nn.Sequential(*middle)
    with torch.no_grad():
        width = body(x).shape[1]
    model = Model(
        lambda m, x: m.head(m.body(x).flatten(2).mean(2)),
        body=body,
        head=nn.Linear(width, 3),
    )
    return model, (x,)


def signal() -> torch.Tensor:
    return torch.randn(2, 3, 12)


def volume() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, 4)


@case("body.0.out body.3.out")
def convolution_1d() -> Pair:
    layers = nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 3, 2, dilation=2)
    return between(signal(), *layers)


@case("body.0.out body.3.out")
def convolution_3d() -> Pair:
    layers = nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 4, 2, 2)
    return between(volume(), *layers)


@case("body.0.out body.2.out body.4.out")
def transposed_convolutions() -> Pair:
    layers = (
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, bias=False),
    )
    return between(picture(), *layers)


@case("body.0.out.group body.0.out.channel body.2.out")
def transposed_grouped_convolution() -> Pair:
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 12, 3, groups=2), nn.ReLU()
    return between(picture(), *layers)


@case("body.0.out")
def transposed_depthwise_convolution() -> Pair:
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2, groups=8), nn.ReLU()
    return between(picture(), *layers)


@case("body.0.out body.1.out body.4.out")
def transposed_convolutions_1d_3d() -> Pair:
    layers = (
        nn.Conv1d(3, 6, 3),
        nn.ConvTranspose1d(6, 4, 2),
        nn.ReLU(),
        nn.Unflatten(2, (1, 1, 11)),
        nn.ConvTranspose3d(4, 5, 2),
    )
    return between(signal(), *layers)


@case("body.0.out.group body.0.out.channel body.2.out.channel")
def grouped_wider_out() -> Pair:
    """ResNeXt: groups of width 4 in, 6 out."""
    layers = nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 18, 3, groups=3), nn.ReLU()
    return between(picture(), *layers)


@case("body.0.out.group body.0.out.channel body.1.out.group body.1.out.channel body.3.out.channel")
def grouped_twice() -> Pair:
    layers = (
        nn.Conv2d(3, 12, 1),
        nn.Conv2d(12, 12, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=4),
    )
    return between(picture(), *layers)


@case("body.0.out body.2.out.channel body.4.out")
def depthwise_with_multiplier() -> Pair:
    layers = (
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 18, 3, groups=6),
        nn.ReLU(),
        nn.Conv2d(18, 5, 1),
    )
    return between(picture(), *layers)


@case("body.0.out body.2.out body.3.out")
def padding_modes() -> Pair:
    layers = (
        nn.Conv2d(3, 6, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(5, 4, 3, padding=1, padding_mode="reflect"),
        nn.ZeroPad2d(1),
        nn.ReplicationPad2d(1),
    )
    return between(picture(), *layers)


@case("body.0.out")
def pools() -> Pair:
    layers = (
        nn.Conv2d(3, 6, 1),
        nn.MaxPool2d(2, stride=1),
        nn.AvgPool2d(2, stride=1),
        nn.LPPool2d(2, 2, stride=1),
        nn.AdaptiveAvgPool2d(4),
        nn.AdaptiveMaxPool2d((3, None)),
    )
    return between(picture(), *layers)


@case("body.0.out")
def pools_1d_3d() -> Pair:
    layers = (
        nn.Conv1d(3, 6, 1),
        nn.AdaptiveMaxPool1d(8),
        nn.Unflatten(2, (2, 2, 2)),
        nn.MaxPool3d(2, stride=1),
        nn.AdaptiveAvgPool3d(1),
    )
    return between(signal(), *layers)


@case("conv.out")
def unpooling() -> Pair:
    """SegNet: the places of the maxima are used again."""

    def forward(m: Any, x: Any) -> Any:
        y, places = F.max_pool2d(torch.relu(m.conv(x)), 2, return_indices=True)
        return m.head(F.max_unpool2d(torch.relu(m.deep(y)), places, 2).mean((2, 3)))

    parts = {"conv": nn.Conv2d(3, 6, 1), "deep": nn.Conv2d(6, 6, 1), "head": nn.Linear(6, 3)}
    return Model(forward, **parts), (picture(),)


@case("conv.out")
def interpolation() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = F.interpolate(torch.relu(m.conv(x)), scale_factor=2)
        y = F.interpolate(y, size=(9, 9), mode="bilinear", align_corners=True)
        y = F.interpolate(y, size=(7, 7), mode="bicubic", antialias=True)
        y = F.interpolate(y, size=(5, 5), mode="bilinear", antialias=True)
        y = F.interpolate(y, scale_factor=1.5, mode="nearest-exact")
        y = F.interpolate(y, size=(6, 6), mode="area")
        return m.head(y.mean((2, 3)))

    return Model(forward, conv=nn.Conv2d(3, 6, 1), head=nn.Linear(6, 3)), (picture(),)


@case("conv.out")
def interpolation_1d_3d() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = F.interpolate(torch.relu(m.conv(x)), size=8, mode="linear")
        y = F.interpolate(y.unflatten(2, (2, 2, 2)), scale_factor=2, mode="trilinear")
        return m.head(y.mean((2, 3, 4)))

    return Model(forward, conv=nn.Conv1d(3, 6, 1), head=nn.Linear(6, 3)), (signal(),)


@case(
    "conv.out local.out",
    theta__out__feature="coordinates of samples",
    theta__out__feature__2="coordinates of samples",
)
def spatial_transformer() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        theta = m.theta(torch.relu(m.local(x)).mean((2, 3))).view(-1, 2, 3)
        y = torch.relu(m.conv(x))
        grid = F.affine_grid(theta, [x.shape[0], 6, 5, 5], align_corners=False)
        return m.head(F.grid_sample(y, grid, align_corners=False).mean((2, 3)))

    parts = {
        "conv": nn.Conv2d(3, 6, 1),
        "local": nn.Conv2d(3, 5, 1),
        "theta": nn.Linear(5, 6),
        "head": nn.Linear(6, 3),
    }
    return Model(forward, **parts), (picture(),)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 6, 3, padding=1)
        self.down2 = nn.Conv2d(6, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.merge = nn.Conv2d(12, 5, 3, padding=1)
        self.out = nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.down1(x))
        coarse = torch.relu(self.down2(F.max_pool2d(fine, 2)))
        return self.out(torch.relu(self.merge(torch.cat([fine, self.up(coarse)], 1))))


@case("down1.out down2.out up.out merge.out")
def u_net() -> Pair:
    return UNet(), (picture(),)


@case("conv.out deep.out")
def two_dimensional_as_one() -> Pair:
    """A picture read row by row by a convolution in one dimension."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.conv(x)).flatten(2)
        return m.head(torch.relu(m.deep(y)).amax(2))

    parts = {"conv": nn.Conv2d(3, 6, 1), "deep": nn.Conv1d(6, 5, 3), "head": nn.Linear(5, 3)}
    return Model(forward, **parts), (picture(),)


@case("embed.out convs.0.out convs.1.out")
def text_convolutions() -> Pair:
    """Kim 2014: convolutions of several widths, the maximum over time, concatenated."""

    def forward(m: Any, x: Any) -> Any:
        y = m.embed(x).transpose(1, 2)
        return m.head(torch.cat([torch.relu(c(y)).max(2).values for c in m.convs], 1))

    convs = nn.ModuleList(nn.Conv1d(6, 4, k) for k in (2, 3))
    parts = {"embed": nn.Embedding(9, 6), "convs": convs, "head": nn.Linear(8, 3)}
    return Model(forward, **parts), (torch.randint(0, 9, (2, 7)),)


@case("conv.out:data-dependent", look__in="fixed")
def spatial_attention() -> Pair:
    """CBAM: mean and maximum over channels decide where to look."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.conv(x))
        where = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True).values], 1)
        return m.head((y * torch.sigmoid(m.look(where))).mean((2, 3)))

    parts = {
        "conv": nn.Conv2d(3, 6, 1),
        "look": nn.Conv2d(2, 1, 3, padding=1),
        "head": nn.Linear(6, 3),
    }
    return Model(forward, **parts), (picture(),)


@case("head.out:norm-changed", conv__out="argmax over units")
def where_the_maximum_is() -> Pair:
    model = Model(
        lambda m, x: m.conv(x).argmax(1).to(x.dtype).mean((1, 2)) + m.head(x).mean((1, 2, 3)),
        conv=nn.Conv2d(3, 6, 1),
        head=nn.Conv2d(3, 2, 1),
    )
    return model, (picture(),)


@case("embed.out wide.out.channel")
def convolution_over_tokens() -> Pair:
    """Conformer: a gated pointwise convolution, then a depthwise one over time."""

    def forward(m: Any, x: Any) -> Any:
        y = F.glu(m.wide(m.embed(x).transpose(1, 2)), dim=1)
        return m.head(F.silu(m.norm(m.deep(y))).transpose(1, 2))

    parts = {
        "embed": nn.Linear(4, 6),
        "wide": nn.Conv1d(6, 16, 1),
        "deep": nn.Conv1d(8, 8, 3, padding=1, groups=8),
        "norm": nn.BatchNorm1d(8),
        "head": nn.Linear(8, 3),
    }
    return Model(forward, **parts), (sequence(),)
