"""Networks and short ways to their curvature, for the tests of this folder."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pruners.statistics import Likelihood, collect
from tests.pruners.conftest import make
from tests.pruners.networks import randomized

WIDE = torch.float64
ONE = Likelihood(temperature=1.0, draws=1)


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed))


def found(model, batches, names=None, likelihood=ONE, dtype=torch.float32):
    """Weight name → G, of all weights if none are named."""
    if names is None:
        names = [name for name, value in model.named_parameters() if value.ndim > 1]
    each = collect(model, batches, names, ["curvature"], likelihood=likelihood, dtype=dtype)
    return {name: one["curvature"] for name, one in each.tensors().items()}


class Tokens(nn.Module):
    """A head tied to the embedding, a weight used twice, and weights that are (in, out)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.twice = nn.Linear(6, 6)
        self.turned = Conv1D(5, 6)
        self.back = nn.Parameter(torch.zeros(5, 6))
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        x = x + self.twice(self.twice(x).tanh())
        return self.head(x + self.turned(x).sigmoid() @ self.back)


class Recurrent(nn.Module):
    """A recurrent layer, and a score from its last step."""

    def __init__(self, layer, size):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(size, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][-1])


class Experts(nn.Module):
    """Stacks of matrices, (in, out) and (out, in): one slice for a token, or all for all of them.

    Args:
        way: of multiplying.
    """

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.router = nn.Linear(4, 3)
        self.up, self.down = (nn.Parameter(torch.zeros(3, *s)) for s in ((4, 5), (4, 5)))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        share, chosen = self.router(x).softmax(-1).max(-1)
        if self.way == "one by one":
            y = torch.zeros_like(x)
            for k in range(3):
                here = chosen == k
                if here.any():
                    hidden = (x[here] @ self.up[k]).tanh()
                    y[here] = nn.functional.linear(hidden, self.down[k])
        elif self.way == "looked up":
            hidden = torch.bmm(x[:, None], self.up[chosen]).tanh()
            y = torch.bmm(self.down[chosen], hidden.mT)[..., 0]
        else:
            hidden = (x @ self.up).tanh()  # (slices, tokens, ·)
            y = torch.bmm(hidden, self.down.mT)[chosen, torch.arange(len(x))]
        return self.head(x + share[:, None] * y)


def seq(*layers):
    return nn.Sequential(*layers)


def packed():
    layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
    return seq(nn.TransformerEncoder(layer, 1), nn.Linear(4, 3))


NETWORKS = {
    "in place": (lambda: seq(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (6, 4)),
    "convolutions": (
        lambda: seq(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, groups=2, stride=2),
            nn.Tanh(),
            nn.Conv2d(6, 6, 2, groups=6),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        (3, 2, 5, 5),
    ),
    "one dimension": (
        lambda: seq(
            nn.Conv1d(2, 3, 3, stride=2, dilation=2),
            nn.GELU(),
            nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        (3, 2, 8),
    ),
    "three dimensions": (
        lambda: seq(
            nn.Conv3d(1, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose3d(2, 2, 2),
            nn.Flatten(),
            nn.Linear(16, 2),
        ),
        (2, 1, 2, 2, 2),
    ),
    "transposed": (
        lambda: seq(
            nn.ConvTranspose2d(2, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
        ),
        (2, 2, 2, 2),
    ),
    "transposed groups": (
        lambda: seq(
            nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
            nn.Tanh(),
            nn.ConvTranspose2d(6, 6, 2, groups=6, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(216, 3),
        ),
        (2, 4, 2, 2),
    ),
    "lstm": (lambda: Recurrent(nn.LSTM(4, 3, 2, bidirectional=True), 6), (4, 2, 4)),
    "lstm with a projection": (lambda: Recurrent(nn.LSTM(4, 5, proj_size=3), 3), (4, 2, 4)),
    "gru": (lambda: Recurrent(nn.GRU(4, 3, bidirectional=True), 6), (4, 2, 4)),
    "rnn": (lambda: Recurrent(nn.RNN(4, 3, 2, nonlinearity="relu"), 3), (4, 2, 4)),
    "experts, one by one": (lambda: Experts("one by one"), (6, 4)),
    "experts, looked up": (lambda: Experts("looked up"), (6, 4)),
    "experts, all": (lambda: Experts("all"), (6, 4)),
    "tokens": (Tokens, None),
    "packed attention": (packed, (2, 3, 4)),
    "attention": (lambda: make("attention").model, None),
    "residual": (lambda: make("cnn").model, (2, 3, 6, 6)),
}


def network(kind):
    build, shape = NETWORKS[kind]
    torch.manual_seed(0)
    model = randomized(build().double())
    return model, torch.randint(0, 7, (2, 4)) if shape is None else numbers(*shape)
