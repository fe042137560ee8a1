"""Small real modules that the tests of this room trace."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class ResidualCNN(nn.Module):
    """Convolution, a residual block with batch norms, flatten into a linear classifier."""

    def __init__(self, width: int = 8, hidden: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(width * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return self.fc(self.dropout(F.adaptive_avg_pool2d(x, 2).flatten(1)))


class Attention(nn.Module):
    """Grouped-query attention between an embedding and an untied output."""

    def __init__(self, heads: int = 4, groups: int = 2, head_dim: int = 4, width: int = 10) -> None:
        super().__init__()
        self.shape = (groups, heads // groups, head_dim)
        self.embed = nn.Embedding(11, width)
        self.q = nn.Linear(width, heads * head_dim)
        self.k = nn.Linear(width, groups * head_dim)
        self.v = nn.Linear(width, groups * head_dim)
        self.o = nn.Linear(heads * head_dim, width)
        self.out = nn.Linear(width, 7)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        groups, share, d = self.shape
        batch, length = tokens.shape
        x = self.embed(tokens)
        q = self.q(x).view(batch, length, groups * share, d).transpose(1, 2)
        k = self.k(x).view(batch, length, groups, d).transpose(1, 2)
        v = self.v(x).view(batch, length, groups, d).transpose(1, 2)
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, groups * share * d))
        return self.out(x)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 7), nn.GELU(), nn.Linear(7, 4))


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Entries of order one everywhere, statistics included, so that nothing is trivially right."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            scale = 1.0 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise * scale)
    return model.eval()
