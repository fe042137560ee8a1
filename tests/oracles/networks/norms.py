"""Norms, similarities, reductions and reparametrised weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from tests.oracles.networks.cases import Model, case, picture, sequence, weight

Pair = tuple[nn.Module, Any]


def normed(norm: Any) -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.norm(m.conv(x))).mean((2, 3))),
        conv=nn.Conv2d(3, 6, 3),
        norm=norm,
        head=nn.Linear(6, 3),
    )
    return model, (picture(),)


def features(function: Any, out: int = 6) -> Pair:
    model = Model(
        lambda m, x: m.head(function(m, torch.relu(m.embed(x)))),
        embed=nn.Linear(4, 6),
        head=nn.Linear(out, 3),
    )
    return model, (sequence(),)


@case("conv.out")
def instance_norm() -> Pair:
    return normed(nn.InstanceNorm2d(6, affine=True))


@case("conv.out")
def instance_norm_with_statistics() -> Pair:
    return normed(nn.InstanceNorm2d(6, affine=True, track_running_stats=True))


@case("conv.out")
def instance_norm_without_scale() -> Pair:
    return normed(nn.InstanceNorm2d(6))


@case("conv.out")
def batch_norm_without_scale() -> Pair:
    return normed(nn.BatchNorm2d(6, affine=False))


@case(conv__out="pooled over")
def local_response_norm() -> Pair:
    return normed(nn.LocalResponseNorm(3))


@case("conv.out:norm-changed")
def one_group_norm() -> Pair:
    return normed(nn.GroupNorm(1, 6))


@case("conv.out")
def channel_wise_group_norm() -> Pair:
    return normed(nn.GroupNorm(6, 6))


@case("scale.out:data-dependent")
def layer_norm_2d_spelled_out() -> Pair:
    """ConvNeXt's and SAM's norm over channels of a picture."""

    def norm(x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) / torch.sqrt(var + 1e-6)

    model = Model(
        lambda m, x: m.head((m.scale * norm(m.conv(x)) + m.shift).mean((2, 3))),
        conv=nn.Conv2d(3, 6, 3),
        scale=weight(6, 1, 1),
        shift=weight(6, 1, 1),
        head=nn.Linear(6, 3),
    )
    return model, (picture(),)


@case("gamma.out:norm-changed")
def global_response_norm() -> Pair:
    """ConvNeXt V2."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.conv(x)).permute(0, 2, 3, 1)
        size = y.norm(p=2, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        return m.head((m.gamma * (y * share) + m.beta + y).mean((1, 2)))

    parts = {"gamma": weight(6), "beta": weight(6), "head": nn.Linear(6, 3)}
    return Model(forward, conv=nn.Conv2d(3, 6, 3), **parts), (picture(),)


@case("embed.out")
def normalise_features() -> Pair:
    return features(lambda m, y: F.normalize(y, dim=-1))


@case("embed.out")
def largest_feature_as_scale() -> Pair:
    return features(lambda m, y: y / (1 + torch.linalg.vector_norm(y, float("inf"), -1, True)))


@case("embed.out:bias-fold")
def statistics_pooling() -> Pair:
    """Mean and deviation over time (x-vectors)."""
    return features(lambda m, y: torch.cat([y.mean(1), (y.var(1) + 1e-3).sqrt()], -1), out=12)


@case("image.out")
def contrastive() -> Pair:
    """CLIP: normalised embeddings of two towers, compared."""

    def forward(m: Any, x: Any, y: Any) -> Any:
        a, b = F.normalize(m.image(x), dim=-1), F.normalize(m.text(y), dim=-1)
        return m.scale.exp() * a @ b.T

    parts = {"image": nn.Linear(4, 6), "text": nn.Linear(5, 6), "scale": weight(1)}
    return Model(forward, **parts), (torch.randn(3, 4), torch.randn(3, 5))


@case("image.out:norm-changed")
def similarities() -> Pair:
    def forward(m: Any, x: Any, y: Any) -> Any:
        a, b = m.image(x), m.text(y)
        distance = torch.cdist(a[None], b[None])[0].sum(-1)
        return F.cosine_similarity(a, b, dim=-1) + distance + F.pairwise_distance(a, b)

    parts = {"image": nn.Linear(4, 6), "text": nn.Linear(5, 6)}
    return Model(forward, **parts), (torch.randn(3, 4), torch.randn(3, 5))


@case("a.out b.out pair.out")
def bilinear() -> Pair:
    def forward(m: Any, x: Any, y: Any) -> Any:
        return m.head(torch.relu(m.pair(m.a(x), torch.relu(m.b(y)))))

    parts = {"a": nn.Linear(4, 6), "b": nn.Linear(5, 7), "pair": nn.Bilinear(6, 7, 8)}
    return Model(forward, **parts, head=nn.Linear(8, 3)), (torch.randn(2, 4), torch.randn(2, 5))


@case("a.out table.out:data-dependent table.out.2 left.out right.out")
def outer_and_tensor_products() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.a(x))
        together = torch.tensordot(y, m.table, dims=([2], [0]))
        return m.head(together).mean((1, 2)) + torch.outer(m.left, m.right).sum()

    parts = {"table": weight(6, 2, 5), "left": weight(4), "right": weight(3)}
    return Model(forward, a=nn.Linear(4, 6), **parts, head=nn.Linear(5, 3)), (sequence(),)


@case("conv.out")
def prelu_per_channel() -> Pair:
    return normed(nn.PReLU(6))


@case(embed__out="constant in the forward")
def constant_per_channel() -> Pair:
    """A scale that the forward makes: it is not saved, so it stays as it is."""
    return features(lambda m, y: y * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))


@case("embed.out")
def constants_that_are_the_same_for_every_channel() -> Pair:
    return features(lambda m, y: y * torch.full((6,), 0.5) + torch.zeros(6))


@case("embed.out:bias-fold")
def ones_for_every_channel() -> Pair:
    return features(lambda m, y: y + torch.ones(6))


@case("embed.out")
def unsaved_buffer_that_is_the_same_for_every_channel() -> Pair:
    """Made anew by the class at any width, it is the same; a bias of keys that is zero."""

    class Shifts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
            self.register_buffer("offset", torch.full((6,), 0.5), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.head(self.embed(x) * self.offset)

    return Shifts(), (sequence(),)


@case(embed__out="scale is not saved with the model and would come back uncut")
def unsaved_buffer_that_differs_from_channel_to_channel() -> Pair:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
            self.register_buffer("scale", torch.arange(6) / 3, persistent=False)

        def forward(self, x: Any) -> Any:
            return self.head(self.embed(x) * self.scale)

    return Scales(), (sequence(),)


@case("embed.out")
def buffers_per_channel() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        return m.head((torch.relu(m.embed(x)) - m.mean) / m.deviation)

    parts = {"mean": torch.randn(6), "deviation": torch.rand(6) + 0.5}
    return Model(forward, embed=nn.Linear(4, 6), **parts, head=nn.Linear(6, 3)), (sequence(),)


@case("conv.out:norm-changed deep.out")
def weight_norm_old() -> Pair:
    return hooked(nn.utils.weight_norm)


@case("conv.out:norm-changed deep.out")
def weight_norm_parametrised() -> Pair:
    conv, deep = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3)
    return weight_normed(parametrizations.weight_norm(conv), parametrizations.weight_norm(deep))


def hooked(norm: Any) -> Pair:
    """The norms that are hooks and not parametrisations, still found in published models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_normed(norm(nn.Conv2d(3, 6, 3)), norm(nn.Conv2d(6, 5, 3)))


def weight_normed(conv: nn.Module, deep: nn.Module) -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.deep(torch.relu(m.conv(x)))).mean((2, 3))),
        conv=conv,
        deep=deep,
        head=nn.Linear(5, 3),
    )
    return model, (picture(),)


@case("conv.out:data-dependent deep.out")
def spectral_norm_old() -> Pair:
    return hooked(nn.utils.spectral_norm)


@case("conv.out:data-dependent deep.out")
def spectral_norm_parametrised() -> Pair:
    conv, deep = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3)
    return weight_normed(parametrizations.spectral_norm(conv), parametrizations.spectral_norm(deep))


@case(
    "middle.out",
    embed__out="a matrix",
    middle__parametrizations__weight__out="a triangle of a matrix",
    middle__parametrizations__weight__0__in="a matrix",
)
def orthogonal_weight() -> Pair:
    model = Model(
        lambda m, x: m.head(m.middle(m.embed(x))),
        embed=nn.Linear(4, 6),
        middle=parametrizations.orthogonal(nn.Linear(6, 6)),
        head=nn.Linear(6, 3),
    )
    return model, (sequence(),)


class Symmetric(nn.Module):
    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return w + w.transpose(0, 1)


@case("embed.out")
def symmetric_weight() -> Pair:
    middle = nn.Linear(6, 6)
    nn.utils.parametrize.register_parametrization(middle, "weight", Symmetric())
    return features_of(middle)


def features_of(middle: nn.Module) -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.middle(torch.relu(m.embed(x))))),
        embed=nn.Linear(4, 6),
        middle=middle,
        head=nn.Linear(6, 3),
    )
    return model, (sequence(),)


@case("up.out down.out down.out.2")
def low_rank_weight() -> Pair:
    """LoRA: W + B A."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x))
        return m.head(F.linear(y, m.middle.weight + m.up @ m.down, m.middle.bias))

    parts = {"middle": nn.Linear(6, 7), "up": weight(7, 2), "down": weight(2, 6)}
    return Model(forward, embed=nn.Linear(4, 6), **parts, head=nn.Linear(7, 3)), (sequence(),)


@case("stem.out:norm-changed conv.out")
def standardised_weight() -> Pair:
    """Weight standardisation (Qiao 2019)."""

    def forward(m: Any, x: Any) -> Any:
        w = m.conv.weight
        mean, var = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), keepdim=True)
        y = F.conv2d(torch.relu(m.stem(x)), (w - mean) / (var + 1e-5).sqrt(), m.conv.bias)
        return m.head(torch.relu(y).mean((2, 3)))

    parts = {"stem": nn.Conv2d(3, 6, 1), "conv": nn.Conv2d(6, 5, 3), "head": nn.Linear(5, 3)}
    return Model(forward, **parts), (picture(),)


@case("embed.out")
def fourier_over_tokens() -> Pair:
    """FNet, over tokens only."""
    return features(lambda m, y: torch.fft.fft(y, dim=1).real + torch.fft.ifft(y, dim=1).imag)


@case(embed__out="a Fourier transform over units", head__in="frequency")
def fourier_over_channels() -> Pair:
    return features(lambda m, y: torch.fft.fft2(y).real)


@case(
    "filter.out",
    filter__out__2="frequency",
    filter__out__3="frequency",
    filter__out__4="real and imaginary part",
)
def fourier_filter() -> Pair:
    """Global filter networks: a learned complex filter over frequencies for every channel."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.fft.rfft2(torch.relu(m.conv(x)), dim=(2, 3), norm="ortho")
        y = y * torch.view_as_complex(m.filter)
        y = torch.fft.irfft2(y, s=(8, 8), dim=(2, 3), norm="ortho")
        return m.head(y.mean((2, 3)))

    parts = {"filter": weight(6, 8, 5, 2), "head": nn.Linear(6, 3)}
    return Model(forward, conv=nn.Conv2d(3, 6, 1), **parts), (picture(),)


@case("real.out real.out.2", real__out__3="slice of a fixed dimension")
def spectral_convolution() -> Pair:
    """Fourier neural operators: complex matrices over channels at every frequency."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.fft.rfft(torch.relu(m.conv(x)))
        w = torch.complex(m.real, m.imaginary)
        y = torch.einsum("bim,iom->bom", y[..., :4], w)
        return m.head(torch.fft.irfft(y, n=8).mean(2))

    parts = {"real": weight(6, 5, 4), "imaginary": weight(6, 5, 4), "head": nn.Linear(5, 3)}
    return Model(forward, conv=nn.Conv1d(3, 6, 1), **parts), (torch.randn(2, 3, 8),)


@case("embed.out.feature", embed__out__feature__2="real and imaginary part")
def complex_rotation() -> Pair:
    """Rotary positions by complex multiplication: features go in pairs."""

    def rotated(m: Any, y: Any) -> Any:
        pairs = torch.view_as_complex(y.reshape(*y.shape[:-1], -1, 2))
        angle = torch.arange(5, dtype=y.dtype)[:, None] * torch.ones(3, dtype=y.dtype)
        turned = pairs * torch.polar(torch.ones_like(angle), angle)
        return torch.view_as_real(turned).flatten(-2)

    return features(rotated)
