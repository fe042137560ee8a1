"""Small vision transformers, Dosovitskiy et al. (arXiv 2010.11929), pre-norm."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.zoo.registry import family


class Attention(nn.Module):
    """Multi-head self-attention with a fused query, key and value projection.

    Args:
        dim: features of a token.
        heads: number of heads.
        head_dim: features of a head; heads * head_dim need not be dim.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(dim, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) -> (B, T, dim)."""
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, head_dim)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) -> (B, T, dim)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, learned positions, pre-norm blocks, class token or mean, linear classifier.

    Args:
        shape, classes: (C, H, W) of the images; outputs.
        patch: side of a square patch in pixels.
        dim, depth, heads, head_dim, hidden: of the blocks.
        class_token: classify from an extra token; from the mean of all tokens otherwise.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        classes: int,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        head_dim: int,
        hidden: int,
        class_token: bool,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        tokens = (height // patch) * (width // patch) + class_token
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.positions = nn.Parameter(0.1 * torch.randn(1, tokens, dim))
        self.token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self.blocks = nn.Sequential(*(Block(dim, heads, head_dim, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        x = self.embed(x).flatten(2).transpose(1, 2)  # (B, T, dim)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.positions))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


def sample(rng: random.Random, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw 1 to 4 blocks of 1 to 4 heads of 8 or 16 features; tokens of 16 to 64 features."""
    large = shape[-1] >= 32
    dim = rng.choice([32, 48, 64]) if large else rng.choice([16, 24, 32, 48])
    return {
        "patch": 4 if large else 2,
        "dim": dim,
        "depth": rng.randint(2, 4) if large else rng.randint(1, 4),
        "heads": rng.randint(1, 4),
        "head_dim": rng.choice([8, 16]),
        "hidden": round(dim * rng.choice([1.5, 2, 3, 4])),
        "class_token": rng.random() < 0.5,
    }


@family("vit", sample)
def vit(shape: tuple[int, ...], outputs: int, **options: Any) -> nn.Module:
    """Build a `ViT`; see there. (B, C, H, W) -> (B, outputs)."""
    return ViT(shape=shape, classes=outputs, **options)
