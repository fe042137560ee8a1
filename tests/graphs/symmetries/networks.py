"""Small networks whose groups are known."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

FEATURES, HIDDEN = 6, 10


class Stream(nn.Module):
    """A residual stream of `FEATURES` behind norms: x + down(f(up(norm(x)))), read by a head.

    Args:
        norm: makes a norm.
        bias: whether the maps that read it have biases.
        post: whether the norm stands behind the branch and not before it.
        tied: whether the head is the embedding.
        on_the_stream: applied to the stream itself.
        mask: whether what the norm makes is multiplied by a number for each position.
    """

    def __init__(
        self,
        norm=nn.LayerNorm,
        *,
        bias=True,
        post=False,
        tied=False,
        on_the_stream=None,
        mask=False,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, FEATURES)
        self.norm, self.last = norm(FEATURES), norm(FEATURES)
        self.up = nn.Linear(FEATURES, HIDDEN, bias=bias)
        self.down = nn.Linear(HIDDEN, FEATURES)
        self.head = nn.Linear(FEATURES, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        self.post, self.on_the_stream, self.mask = post, on_the_stream, mask

    def forward(self, tokens):
        x = self.embed(tokens)
        before = x if self.post else self.norm(x)
        if self.mask:
            before = before * (tokens % 2 + 0.5).unsqueeze(-1)
        branch = self.down(F.gelu(self.up(before)))
        x = x + (self.norm(branch) if self.post else branch)
        if self.on_the_stream is not None:
            x = self.on_the_stream(x)
        return self.head(self.last(x))


class OffsetNorm(nn.Module):
    """A root-mean-square norm with the scale 1 + w, spelled out."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class SpelledNorm(nn.Module):
    """A LayerNorm, spelled out."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return self.weight * x + self.bias


class Bottleneck(nn.Module):
    """Two linear bottlenecks of a MobileNetV2: wide, rectified, and thin without a rectifier.

    Args:
        depthwise: whether a depthwise kernel reads the thin stream.
    """

    def __init__(self, *, depthwise=False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, FEATURES, 3, bias=False), nn.BatchNorm2d(FEATURES))
        self.wide = nn.Sequential(nn.Conv2d(FEATURES, HIDDEN, 1), nn.ReLU6())
        self.thin = nn.Sequential(nn.Conv2d(HIDDEN, FEATURES, 1), nn.BatchNorm2d(FEATURES))
        groups = FEATURES if depthwise else 1
        self.last = nn.Conv2d(FEATURES, FEATURES if depthwise else 5, 3, padding=1, groups=groups)
        self.head = nn.Linear(FEATURES if depthwise else 5, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.thin(self.wide(x))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class Attention(nn.Module):
    """Grouped-query attention, two key/value heads for four query heads of three features.

    Args:
        rotary: whether queries and keys are rotated by their positions.
        norm: whether queries and keys are normed.
    """

    def __init__(self, *, rotary=False, norm=False) -> None:
        super().__init__()
        size = 4 if rotary else 3
        self.size = size
        self.q, self.k = nn.Linear(5, 4 * size), nn.Linear(5, 2 * size)
        self.v, self.o = nn.Linear(5, 2 * size), nn.Linear(4 * size, 5)
        self.norm = nn.RMSNorm(size) if norm else nn.Identity()
        self.rotary = rotary
        self.angles = nn.Parameter(torch.tensor([1.0, 0.1]))

    def turned(self, x):
        angle = torch.arange(x.shape[-2])[:, None] * self.angles
        a, b = x.chunk(2, -1)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (
            f(x).view(batch, length, heads, self.size).transpose(1, 2)
            for f, heads in ((self.q, 4), (self.k, 2), (self.v, 2))
        )
        q, k = self.norm(q), self.norm(k)
        if self.rotary:
            q, k = self.turned(q), self.turned(k)
        k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.o(out.transpose(1, 2).reshape(batch, length, -1))


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 and evaluation, with weights, scales and statistics that differ."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point() or name == "angles":
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        positive = "var" in name or (value.dim() == 1 and "weight" in name)
        with torch.no_grad():
            value.copy_(drawn.abs() + 0.5 if positive else 0.5 * drawn)
    return model


def tokens() -> tuple[torch.Tensor]:
    return (torch.arange(8).view(2, 4) % 7,)


def images() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator()),)


def vectors() -> tuple[torch.Tensor]:
    return (torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator()),)
