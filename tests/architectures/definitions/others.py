"""Recommendation, tables, point sets, graphs, control, and networks of unusual wiring."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tests.architectures.blocks import Add, Lambda, conv
from tests.architectures.registry import Built, architecture, image


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


@architecture
def multilayer_perceptron() -> Built:
    return mlp(6, 18, 14, 10, 4), (torch.randn(3, 6),)


class DLRM(nn.Module):
    """Naumov et al. 2019: dot products of all pairs of embeddings and the dense vector."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 8) for n in (10, 20, 30))
        self.bottom, self.top = mlp(5, 14, 8), mlp(8 + 6, 16, 1)
        self.register_buffer("pairs", torch.tril_indices(4, 4, -1), persistent=False)

    def forward(self, dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
        x = self.bottom(dense)
        found = [x, *(table(sparse[:, i]) for i, table in enumerate(self.tables))]
        stacked = torch.stack(found, 1)
        dots = stacked @ stacked.transpose(1, 2)
        return self.top(torch.cat([x, dots[:, self.pairs[0], self.pairs[1]]], 1)).sigmoid()


@architecture
def dlrm() -> Built:
    return DLRM(), (torch.randn(2, 5), torch.randint(0, 10, (2, 3)))


class DeepFM(nn.Module):
    """Factorisation machine and a deep part over the same embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.factors = nn.Embedding(40, 1), nn.Embedding(40, 7)
        self.deep = mlp(21, 16, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        v = self.factors(ids)
        pairs = 0.5 * (v.sum(1).pow(2) - v.pow(2).sum(1)).sum(1, keepdim=True)
        return self.linear(ids).sum(1) + pairs + self.deep(v.flatten(1))


@architecture
def deepfm() -> Built:
    return DeepFM(), (torch.randint(0, 40, (2, 3)),)


@architecture
def wide_and_deep() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.table, self.deep = (
                nn.Linear(6, 1),
                nn.Embedding(20, 5),
                mlp(11, 14, 9, 1),
            )

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return self.wide(x) + self.deep(torch.cat([x, self.table(ids)], 1))

    return Model(), (torch.randn(2, 6), torch.randint(0, 20, (2,)))


@architecture
def deep_and_cross() -> Built:
    """DCN v2: x0 ⊙ (W x + b) + x, beside a deep part."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Linear(6, 12)
            self.cross = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
            self.deep, self.head = mlp(12, 16, 10), nn.Linear(22, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x0 = y = self.enter(x)
            for layer in self.cross:
                y = x0 * layer(y) + y
            return self.head(torch.cat([y, self.deep(x0)], 1))

    return Model(), (torch.randn(3, 6),)


@architecture
def two_tower_retrieval() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = mlp(6, 14, 8), mlp(5, 12, 8)

        def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
            u, v = F.normalize(self.user(user), dim=-1), F.normalize(self.item(item), dim=-1)
            return (u * v).sum(-1)

    return Model(), (torch.randn(3, 6), torch.randn(3, 5))


@architecture
def siamese() -> Built:
    """One module called twice; the outputs are compared."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), nn.Flatten())
            self.embed, self.head = nn.Linear(12 * 16, 10), nn.Linear(10, 1)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            x, y = self.embed(self.tower(a)), self.embed(self.tower(b))
            return self.head((x - y).abs())

    return Model(), (image(size=16), image(size=16))


@architecture
def triplet_cosine() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = mlp(6, 18, 12)

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            x, y, z = self.tower(a), self.tower(b), self.tower(c)
            return F.cosine_similarity(x, y) - F.cosine_similarity(x, z)

    return Model(), tuple(torch.randn(3, 6) for _ in range(3))


@architecture
def several_inputs_and_outputs() -> Built:
    """Images, numbers and words in; classes, a box and an embedding out."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Sequential(conv(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.numbers, self.words = nn.Linear(4, 7), nn.Embedding(20, 6)
            self.trunk = mlp(21, 18, 14)
            self.classes, self.box, self.embed = (nn.Linear(14, n) for n in (5, 4, 9))

        def forward(
            self, picture: torch.Tensor, numbers: torch.Tensor, words: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            parts = [self.image(picture), self.numbers(numbers).relu(), self.words(words).mean(1)]
            h = F.relu(self.trunk(torch.cat(parts, 1)))
            return {"classes": self.classes(h), "box": self.box(h).sigmoid(), "h": self.embed(h)}

    return Model(), {
        "picture": image(size=8),
        "numbers": torch.randn(2, 4),
        "words": torch.randint(0, 20, (2, 3)),
    }


class TNet(nn.Module):
    """PointNet's spatial transformer: predicts a matrix that multiplies the points."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.local = nn.Sequential(
            nn.Conv1d(k, 10, 1), nn.BatchNorm1d(10), nn.ReLU(), nn.Conv1d(10, 14, 1), nn.ReLU()
        )
        self.head = mlp(14, 12, k * k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        matrix = self.head(self.local(x).amax(2)).view(-1, self.k, self.k)
        return torch.bmm(matrix, x)


@architecture
def pointnet() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.align = TNet(3), TNet(8)
            self.a = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU())
            self.b = nn.Sequential(nn.Conv1d(8, 18, 1), nn.BatchNorm1d(18), nn.ReLU())
            self.head = mlp(18, 14, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.align(self.a(self.enter(x)))
            return self.head(self.b(x).amax(2))

    return Model(), (torch.randn(2, 3, 11),)


@architecture
def pointnet_segmentation() -> Built:
    """The global feature is repeated for every point and concatenated to the local one."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 14, 1)
            self.head = nn.Sequential(nn.Conv1d(22, 12, 1), nn.ReLU(), nn.Conv1d(12, 5, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            local = F.relu(self.a(x))
            pooled = F.relu(self.b(local)).amax(2, keepdim=True)
            return self.head(torch.cat([local, pooled.repeat(1, 1, x.shape[2])], 1))

    return Model(), (torch.randn(2, 3, 11),)


@architecture
def deep_sets() -> Built:
    layers = [mlp(3, 14, 10), Lambda(lambda x: x.sum(1)), mlp(10, 12, 4)]
    return nn.Sequential(*layers), (torch.randn(2, 6, 3),)


@architecture
def set_transformer() -> Built:
    """Learned inducing points that attend to the set, and the set to them."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.points = nn.Linear(3, 16), nn.Parameter(torch.randn(1, 5, 16))
            self.a, self.b = (nn.MultiheadAttention(16, 4, batch_first=True) for _ in range(2))
            self.head = mlp(16, 12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.enter(x)
            points = self.points.expand(x.shape[0], -1, -1)
            h = points + self.a(points, x, x, need_weights=False)[0]
            return self.head((x + self.b(x, h, h, need_weights=False)[0]).mean(1))

    return Model(), (torch.randn(2, 6, 3),)


@architecture
def graph_convolution() -> Built:
    """Kipf and Welling 2017, with the normalised adjacency as an input."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 14), nn.Linear(14, 10), nn.Linear(10, 4)

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            x = F.relu(adjacency @ self.a(x))
            return self.head(F.relu(adjacency @ self.b(x)))

    return Model(), (torch.randn(2, 7, 6), torch.rand(2, 7, 7))


@architecture
def graph_attention() -> Built:
    """Velickovic et al. 2018, two heads, dense adjacency."""

    class Layer(nn.Module):
        def __init__(self, inputs: int, heads: int, features: int) -> None:
            super().__init__()
            self.heads, self.features = heads, features
            self.enter = nn.Linear(inputs, heads * features, bias=False)
            self.left, self.right = (nn.Parameter(torch.randn(heads, features)) for _ in range(2))

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            b, n, _ = x.shape
            h = self.enter(x).view(b, n, self.heads, self.features)
            left, right = (h * self.left).sum(-1), (h * self.right).sum(-1)
            scores = F.leaky_relu(left[:, :, None] + right[:, None, :], 0.2)
            weights = scores.masked_fill(adjacency[..., None] < 0.5, -1e9).softmax(2)
            return torch.einsum("bijh,bjhf->bihf", weights, h).reshape(b, n, -1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = Layer(6, 2, 5), Layer(10, 3, 4), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            return self.head(F.elu(self.b(F.elu(self.a(x, adjacency)), adjacency)))

    return Model(), (torch.randn(2, 7, 6), torch.rand(2, 7, 7))


@architecture
def dueling_dqn() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(conv(4, 8, 3, 2), conv(8, 12, 3, 2), nn.Flatten())
            self.value, self.advantage = mlp(192, 14, 1), mlp(192, 16, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.body(x)
            a = self.advantage(h)
            return self.value(h) + a - a.mean(1, keepdim=True)

    return Model(), (image(4, 16),)


@architecture
def actor_critic() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(6, 18, 14, act=nn.Tanh)
            self.mean, self.value = nn.Linear(14, 3), nn.Linear(14, 1)
            self.log_std = nn.Parameter(torch.zeros(3))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            h = torch.tanh(self.body(x))
            mean = self.mean(h)
            return mean, self.log_std.exp().expand_as(mean), self.value(h)

    return Model(), (torch.randn(3, 6),)


@architecture
def tied_autoencoder() -> Built:
    """The decoder is the transpose of the encoder."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 9), nn.Linear(9, 5)
            self.c, self.d = nn.Parameter(torch.zeros(9)), nn.Parameter(torch.zeros(12))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.tanh(self.b(torch.tanh(self.a(x))))
            h = torch.tanh(F.linear(h, self.b.weight.t(), self.c))
            return F.linear(h, self.a.weight.t(), self.d)

    return Model(), (torch.randn(3, 12),)


@architecture
def highway_network() -> Built:
    class Highway(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body, self.gate = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gate = torch.sigmoid(self.gate(x))
            return gate * F.relu(self.body(x)) + (1 - gate) * x

    layers = [nn.Linear(6, 14), Highway(14), Highway(14), nn.Linear(14, 4)]
    return nn.Sequential(*layers), (torch.randn(3, 6),)


@architecture
def selu_alpha_dropout() -> Built:
    layers = [nn.Linear(6, 14), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(14, 10), nn.SELU()]
    return nn.Sequential(*layers, nn.Linear(10, 4)), (torch.randn(3, 6),)


@architecture
def fractal_network() -> Built:
    """Paths of different depth joined by their mean, recursively."""

    class Fractal(nn.Module):
        def __init__(self, inputs: int, outputs: int, depth: int) -> None:
            super().__init__()
            self.short = conv(inputs, outputs)
            self.long = (
                nn.Sequential(
                    Fractal(inputs, outputs, depth - 1), Fractal(outputs, outputs, depth - 1)
                )
                if depth
                else None
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.short(x)
            return y if self.long is None else (y + self.long(x)) / 2

    layers = [Fractal(3, 8, 2), nn.MaxPool2d(2), Fractal(8, 12, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)), (
        image(size=8),
    )


@architecture
def ft_transformer() -> Built:
    """Gorishniy et al. 2021: every feature of a table becomes a token; ReGLU."""

    class Layer(nn.Module):
        def __init__(self, dim: int, hidden: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.attn = nn.MultiheadAttention(dim, 4, batch_first=True)
            self.up, self.down = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm1(x)
            x = x + self.attn(y, y, y, need_weights=False)[0]
            a, b = self.up(self.norm2(x)).chunk(2, -1)
            return x + self.down(a * F.relu(b))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = (
                nn.Parameter(torch.randn(6, 16)),
                nn.Parameter(torch.randn(6, 16)),
            )
            self.cls = nn.Parameter(torch.randn(16))
            self.layers = nn.Sequential(Layer(16, 18), Layer(16, 14))
            self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x[..., None] * self.weight + self.bias
            cls = self.cls.expand(x.shape[0], 1, -1)
            return self.head(self.norm(self.layers(torch.cat([tokens, cls], 1))[:, -1]).relu())

    return Model(), (torch.randn(3, 6),)


@architecture
def tabnet_glu_block() -> Built:
    """Gated linear units with ghost-free batch norm and √½ residuals, sparse steps by softmax."""

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.bn = nn.Linear(8, 24), nn.BatchNorm1d(24)
            self.fc2, self.bn2 = nn.Linear(12, 24), nn.BatchNorm1d(24)
            self.mask = nn.Linear(12, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = F.glu(self.bn(self.fc(x)), -1)
            h = (h + F.glu(self.bn2(self.fc2(h)), -1)) * 0.5**0.5
            return F.relu(h), self.mask(h).softmax(-1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.a, self.b, self.head = nn.BatchNorm1d(8), Step(), Step(), nn.Linear(12, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.bn(x)
            d, mask = self.a(x)
            return self.head(d + self.b(x * mask)[0])

    return Model(), (torch.randn(4, 8),)


@architecture
def recurrent_block_reuse() -> Built:
    """Universal-transformer style: the same block applied three times."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.block, self.head = (
                nn.Linear(6, 14),
                Add(mlp(14, 20, 14)),
                nn.Linear(14, 4),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.enter(x)
            for _ in range(3):
                x = self.block(x)
            return self.head(x)

    return Model(), (torch.randn(3, 6),)


@architecture
def frozen_backbone() -> Built:
    """A backbone without gradients and a trained head."""
    body = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2)).requires_grad_(False)
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)), (
        image(size=8),
    )


@architecture
def ensemble_of_copies() -> Built:
    """Members of one shape, averaged: their widths are free of one another."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            member = mlp(6, 14, 10, 4)
            self.members = nn.ModuleList(copy.deepcopy(member) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([m(x).softmax(-1) for m in self.members]).mean(0)

    return Model(), (torch.randn(3, 6),)


@architecture
def bilinear_fusion() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 10), nn.Linear(5, 8)
            self.fuse, self.head = nn.Bilinear(10, 8, 12), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.head(F.relu(self.fuse(F.relu(self.a(x)), F.relu(self.b(y)))))

    return Model(), (torch.randn(3, 6), torch.randn(3, 5))


@architecture
def lora_adapter() -> Built:
    """A linear layer with a low-rank path beside it."""

    class LoRA(nn.Module):
        def __init__(self, inputs: int, outputs: int, rank: int) -> None:
            super().__init__()
            self.base = nn.Linear(inputs, outputs).requires_grad_(False)
            self.a, self.b = (
                nn.Linear(inputs, rank, bias=False),
                nn.Linear(rank, outputs, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + 2.0 * self.b(self.a(x))

    layers = [LoRA(6, 14, 4), nn.ReLU(), LoRA(14, 10, 3), nn.ReLU(), nn.Linear(10, 4)]
    return nn.Sequential(*layers), (torch.randn(3, 6),)


@architecture
def kolmogorov_arnold() -> Built:
    """Radial basis functions of every input, combined linearly, beside a SiLU path."""

    class Layer(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.base = nn.Linear(inputs, outputs)
            self.spline = nn.Parameter(torch.randn(outputs, inputs, 5))
            self.register_buffer("grid", torch.linspace(-2, 2, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            basis = torch.exp(-((x[..., None] - self.grid) ** 2))
            return self.base(F.silu(x)) + torch.einsum("big,oig->bo", basis, self.spline)

    return nn.Sequential(Layer(6, 10), Layer(10, 8), Layer(8, 3)), (torch.randn(3, 6),)
