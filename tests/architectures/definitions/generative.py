"""Generative networks, defined here after their papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tests.architectures.blocks import Attention, Lambda, conv
from tests.architectures.registry import Built, architecture, image


class VAE(nn.Module):
    """Convolutional, with the mean in place of a sample, and three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), nn.Flatten())
        self.mean, self.logvar = nn.Linear(12 * 16, 6), nn.Linear(12 * 16, 6)
        self.enter = nn.Linear(6, 10 * 16)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(10, 8, 4, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = self.encoder(x)
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + 0.5 * torch.exp(0.5 * logvar)
        return self.decoder(self.enter(z).view(-1, 10, 4, 4)), mean, logvar


@architecture
def vae() -> Built:
    return VAE(), (image(size=16),)


@architecture
def pixel_shuffle_decoder() -> Built:
    """A linear layer laid out as a picture, shuffled to a larger one."""
    layers = [nn.Linear(6, 16 * 9), nn.ReLU(), nn.Unflatten(1, (16, 3, 3)), nn.PixelShuffle(2)]
    return nn.Sequential(*layers, nn.Conv2d(4, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1)), (
        torch.randn(2, 6),
    )


@architecture
def dcgan_generator() -> Built:
    layers: list[nn.Module] = []
    for a, b in ((10, 14), (14, 8)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()), (
        torch.randn(2, 10, 2, 2),
    )


@architecture
def dcgan_discriminator_spectral_norm() -> Built:
    layers: list[nn.Module] = []
    for a, b in ((3, 8), (8, 12), (12, 16)):
        layers += [spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(64, 1))), (image(size=16),)


@architecture
def discriminator_weight_norm() -> Built:
    layers: list[nn.Module] = []
    for a, b in ((3, 8), (8, 12)):
        layers += [weight_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 16, 3)), (image(size=16),)


class StyleBlock(nn.Module):
    """Adaptive instance norm: scales and shifts of channels come from a style vector."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.conv, self.style = (
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.Linear(style, 2 * outputs),
        )

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        return F.leaky_relu(F.instance_norm(self.conv(x)) * (1 + scale) + shift, 0.2)


class StyleGAN(nn.Module):
    """A mapping network and a synthesis network that starts from a learned constant."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(6, 14), nn.ReLU(), nn.Linear(14, 11))
        self.constant = nn.Parameter(torch.randn(1, 10, 4, 4))
        self.a, self.b = StyleBlock(10, 12, 11), StyleBlock(12, 8, 11)
        self.rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        w = self.mapping(z)
        x = self.a(self.constant.expand(z.shape[0], -1, -1, -1), w)
        return self.rgb(self.b(F.interpolate(x, scale_factor=2.0), w))


@architecture
def stylegan() -> Built:
    return StyleGAN(), (torch.randn(2, 6),)


class TimeResidual(nn.Module):
    """DDPM's residual block: group norm, a shift per channel from the time embedding."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, inputs), nn.GroupNorm(2, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


class SpatialAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(2, width), nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, h * w).unbind(1)
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * c**-0.5, -1)
        y = torch.einsum("bij,bcj->bci", weights, v).reshape(b, c, h, w)
        return x + self.proj(y)


class Diffusion(nn.Module):
    """DDPM's U-Net with sinusoidal times and attention at the bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(8, 14), nn.SiLU(), nn.Linear(14, 14))
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.down = TimeResidual(8, 10, 14), nn.Conv2d(10, 10, 3, 2, 1)
        self.b, self.attn = TimeResidual(10, 12, 14), SpatialAttention(12)
        self.up, self.c = nn.Conv2d(12, 12, 3, padding=1), TimeResidual(22, 10, 14)
        self.norm, self.leave = nn.GroupNorm(2, 10), nn.Conv2d(10, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rates = torch.exp(-torch.arange(4, device=x.device) / 4.0).to(x.dtype)
        angles = t[:, None].to(x.dtype) * rates
        t = self.embed(torch.cat([angles.sin(), angles.cos()], -1))
        skip = self.a(self.enter(x), t)
        y = self.attn(self.b(self.down(skip), t))
        y = self.up(F.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.c(torch.cat([y, skip], 1), t)
        return self.leave(F.silu(self.norm(y)))


@architecture
def ddpm_unet() -> Built:
    return Diffusion(), (image(size=8), torch.tensor([3, 40]))


class DiTBlock(nn.Module):
    """Peebles and Xie 2023: adaLN-Zero, six modulations from one condition."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        a, b, g, d, e, h = self.modulation(c)[:, None].chunk(6, -1)
        x = x + g * self.attn(self.norm1(x) * (1 + b) + a)
        return x + h * self.mlp(self.norm2(x) * (1 + e) + d)


@architecture
def dit() -> Built:
    class DiT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.classes = nn.Conv2d(3, 16, 2, 2), nn.Embedding(7, 16)
            self.pos = nn.Parameter(torch.randn(1, 16, 16))
            self.blocks = nn.ModuleList([DiTBlock(16, 4, 26), DiTBlock(16, 4, 22)])
            self.head = nn.Linear(16, 12)

        def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2) + self.pos
            c = self.classes(label)
            for block in self.blocks:
                x = block(x, c)
            y = self.head(x).view(-1, 4, 4, 2, 2, 3)
            return y.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, 8, 8)

    return DiT(), (image(size=8), torch.tensor([1, 5]))


class Coupling(nn.Module):
    """RealNVP: half of the values scale and shift the other half."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        half = features // 2
        self.net = nn.Sequential(nn.Linear(half, hidden), nn.ReLU(), nn.Linear(hidden, 2 * half))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = x.chunk(2, -1)
        scale, shift = self.net(a).chunk(2, -1)
        scale = torch.tanh(scale)
        return torch.cat([b * scale.exp() + shift, a], -1), scale.sum(-1)


@architecture
def realnvp() -> Built:
    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList(Coupling(8, h) for h in (14, 18, 12))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            total = x.new_zeros(x.shape[0])
            for step in self.steps:
                x, logdet = step(x)
                total = total + logdet
            return x, total

    return Flow(), (torch.randn(2, 8),)


class MaskedConv(nn.Conv2d):
    """PixelCNN: the kernel times a causal mask that is a buffer."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        mask = torch.ones_like(self.weight)
        mask[:, :, kernel // 2, kernel // 2 + 1 :] = 0
        mask[:, :, kernel // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding)


@architecture
def pixelcnn() -> Built:
    layers = [MaskedConv(1, 10, 7), nn.ReLU(), MaskedConv(10, 12, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)), (
        torch.randn(2, 1, 8, 8),
    )


@architecture
def vqvae() -> Built:
    """The nearest code of a codebook takes the place of every latent vector."""

    class VQ(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(conv(3, 10, 3, 2), nn.Conv2d(10, 6, 1))
            self.codes = nn.Embedding(16, 6)
            self.decoder = nn.Sequential(nn.ConvTranspose2d(6, 8, 4, 2, 1), nn.ReLU(), conv(8, 7))
            self.head = nn.Conv2d(7, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.encoder(x).permute(0, 2, 3, 1)
            far = (z[..., None, :] - self.codes.weight).pow(2).sum(-1)
            near = self.codes(far.argmin(-1))
            z = z + (near - z).detach()
            return self.head(self.decoder(z.permute(0, 3, 1, 2)))

    return VQ(), (image(size=8),)


@architecture
def nerf() -> Built:
    """Mildenhall et al. 2020: sines of positions, the input once more in the middle, two heads."""

    class NeRF(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Linear(15, 18), nn.ReLU(), nn.Linear(18, 16), nn.ReLU())
            self.b = nn.Sequential(nn.Linear(31, 14), nn.ReLU())
            self.density, self.feature = nn.Linear(14, 1), nn.Linear(14, 12)
            self.colour = nn.Sequential(nn.Linear(15, 9), nn.ReLU(), nn.Linear(9, 3), nn.Sigmoid())

        def forward(self, x: torch.Tensor, view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            parts = [x, *(f(x * 2**k) for k in range(2) for f in (torch.sin, torch.cos))]
            p = torch.cat(parts, -1)
            y = self.b(torch.cat([self.a(p), p], -1))
            return self.colour(torch.cat([self.feature(y), view], -1)), F.softplus(self.density(y))

    return NeRF(), (torch.randn(5, 3), torch.randn(5, 3))


@architecture
def siren() -> Built:
    layers: list[nn.Module] = []
    for a, b in ((2, 14), (14, 18), (18, 12)):
        layers += [nn.Linear(a, b), Lambda(lambda x: torch.sin(3.0 * x))]
    return nn.Sequential(*layers, nn.Linear(12, 3)), (torch.randn(6, 2),)
