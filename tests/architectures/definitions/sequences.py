"""Networks of sequences and sets of tokens, defined here: recurrent, convolutional, mixing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.architectures.blocks import Add, Block, Lambda
from tests.architectures.registry import Built, architecture, image, register, tokens


class Recurrent(nn.Module):
    """Embedding, a recurrent layer, a linear head on the last step."""

    def __init__(self, kind: type, hidden: int, layers: int, both_ways: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.rnn = kind(12, hidden, layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(hidden * (1 + both_ways), 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        y, _ = self.rnn(self.embedding(ids))
        return self.head(y[:, -1])


register("lstm_classifier", lambda: (Recurrent(nn.LSTM, 14, 2, False), (tokens(),)))
register("lstm_bidirectional", lambda: (Recurrent(nn.LSTM, 10, 2, True), (tokens(),)))
register("gru_classifier", lambda: (Recurrent(nn.GRU, 14, 2, False), (tokens(),)))
register("rnn_classifier", lambda: (Recurrent(nn.RNN, 14, 1, False), (tokens(),)))


@architecture
def lstm_language_model() -> Built:
    """AWD-LSTM's layout: the embedding is tied to the decoder, widths differ between layers."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 12)
            self.a = nn.LSTM(12, 18, batch_first=True)
            self.b = nn.LSTM(18, 12, batch_first=True)
            self.decoder = nn.Linear(12, 50)
            self.decoder.weight = self.embedding.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            y, _ = self.a(self.embedding(ids))
            y, _ = self.b(y)
            return self.decoder(y)

    return Model(), (tokens(),)


@architecture
def lstm_cell_unrolled() -> Built:
    """Cells in a Python loop: every step uses the same weights."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.LSTMCell(8, 14), nn.Linear(14, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = c = x.new_zeros(x.shape[0], 14)
            for t in range(4):
                h, c = self.cell(x[:, t], (h, c))
            return self.head(h)

    return Model(), (torch.randn(2, 4, 8),)


@architecture
def gru_cell_unrolled() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.cell, self.head = (
                nn.Linear(8, 14),
                nn.GRUCell(14, 14),
                nn.Linear(14, 5),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.tanh(self.enter(x[:, 0]))
            for t in range(3):
                h = self.cell(self.enter(x[:, t]), h)
            return self.head(h)

    return Model(), (torch.randn(2, 3, 8),)


@architecture
def seq2seq_with_attention() -> Built:
    """Bahdanau et al. 2015: additive attention over a bidirectional encoder."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(50, 10), nn.Embedding(40, 9)
            self.encoder = nn.GRU(10, 8, batch_first=True, bidirectional=True)
            self.decoder = nn.GRU(9, 14, batch_first=True)
            self.keys, self.queries = nn.Linear(16, 11, bias=False), nn.Linear(14, 11)
            self.score = nn.Linear(11, 1)
            self.out = nn.Linear(16 + 14, 40)

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            memory, _ = self.encoder(self.source(source))
            states, _ = self.decoder(self.target(target))
            both = self.keys(memory)[:, None] + self.queries(states)[:, :, None]
            weights = self.score(torch.tanh(both)).squeeze(-1).softmax(-1)
            return self.out(torch.cat([weights @ memory, states], -1))

    return Model(), (tokens(), tokens(40, 5))


@architecture
def crnn() -> Built:
    """Convolutions, then a recurrent layer along the width of a text line."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 10, 3, (2, 1), 1),
            )
            self.rnn, self.head = nn.LSTM(20, 12, bidirectional=True), nn.Linear(24, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.conv(x))
            y, _ = self.rnn(y.flatten(1, 2).permute(2, 0, 1))
            return self.head(y).log_softmax(-1)

    return Model(), (torch.randn(2, 1, 8, 16),)


@architecture
def text_cnn() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 12)
            self.convs = nn.ModuleList(nn.Conv1d(12, 5 + k, k) for k in (2, 3, 4))
            self.head = nn.Linear(7 + 8 + 9, 5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embedding(ids).transpose(1, 2)
            return self.head(torch.cat([F.relu(c(x)).amax(2) for c in self.convs], 1))

    return Model(), (tokens(),)


@architecture
def fasttext() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.head = nn.EmbeddingBag(50, 12, mode="mean"), nn.Linear(12, 5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.bag(ids))

    return Model(), (tokens(),)


class WaveNet(nn.Module):
    """van den Oord et al. 2016: causal dilated convolutions, tanh·sigmoid gates, skips."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, 10, 1)
        self.dilations = (1, 2, 4)
        self.filters = nn.ModuleList(nn.Conv1d(10, 12, 2, dilation=d) for d in self.dilations)
        self.gates = nn.ModuleList(nn.Conv1d(10, 12, 2, dilation=d) for d in self.dilations)
        self.residual = nn.ModuleList(nn.Conv1d(12, 10, 1) for _ in self.dilations)
        self.skip = nn.ModuleList(nn.Conv1d(12, 14, 1) for _ in self.dilations)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(14, 16, 1), nn.ReLU(), nn.Conv1d(16, 9, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        total: torch.Tensor | int = 0
        for i, d in enumerate(self.dilations):
            padded = F.pad(x, (d, 0))
            y = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            total = total + self.skip[i](y)
            x = x + self.residual[i](y)
        return self.head(total)


@architecture
def wavenet() -> Built:
    return WaveNet(), (torch.randn(2, 1, 20),)


@architecture
def tcn() -> Built:
    """Bai et al. 2018, with weight norm and the padding chopped off."""
    from torch.nn.utils.parametrizations import weight_norm

    def unit(inputs: int, outputs: int, d: int) -> nn.Module:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers.append(weight_norm(nn.Conv1d(width, outputs, 3, padding=2 * d, dilation=d)))
            layers += [Lambda(lambda x: x[:, :, : -2 * d]), nn.ReLU(), nn.Dropout(0.2)]
        shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None
        return Add(nn.Sequential(*layers), shortcut, nn.ReLU())

    last = Lambda(lambda x: x[:, :, -1])
    return nn.Sequential(
        unit(3, 10, 1), unit(10, 14, 2), unit(14, 14, 4), last, nn.Linear(14, 5)
    ), (torch.randn(2, 3, 16),)


class ConvTasNet(nn.Module):
    """Luo and Mesgarani 2019: a learned basis, depthwise separable blocks, masks per source."""

    def __init__(self, sources: int = 2) -> None:
        super().__init__()
        self.sources = sources
        self.encoder = nn.Conv1d(1, 16, 8, 4, bias=False)
        self.norm, self.enter = nn.GroupNorm(1, 16), nn.Conv1d(16, 10, 1)
        self.blocks = nn.ModuleList(self.block(d) for d in (1, 2, 4))
        self.residual = nn.ModuleList(nn.Conv1d(14, 10, 1) for _ in range(3))
        self.skip = nn.ModuleList(nn.Conv1d(14, 12, 1) for _ in range(3))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(12, 16 * sources, 1), nn.Sigmoid())
        self.decoder = nn.ConvTranspose1d(16, 1, 8, 4, bias=False)

    @staticmethod
    def block(d: int) -> nn.Module:
        depthwise = nn.Conv1d(14, 14, 3, padding=d, dilation=d, groups=14)
        layers = [nn.Conv1d(10, 14, 1), nn.PReLU(), nn.GroupNorm(1, 14), depthwise]
        return nn.Sequential(*layers, nn.PReLU(), nn.GroupNorm(1, 14))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        basis = self.encoder(x)
        y = self.enter(self.norm(basis))
        total: torch.Tensor | int = 0
        for block, residual, skip in zip(self.blocks, self.residual, self.skip, strict=True):
            z = block(y)
            y, total = y + residual(z), total + skip(z)
        b, n, t = basis.shape
        masked = self.mask(total).view(b, self.sources, n, t) * basis[:, None]
        return self.decoder(masked.view(b * self.sources, n, t)).view(b, self.sources, -1)


@architecture
def conv_tasnet() -> Built:
    return ConvTasNet(), (torch.randn(2, 1, 64),)


@architecture
def mlp_mixer() -> Built:
    class Mixer(nn.Module):
        def __init__(self, tokens: int, width: int, hidden: int, middle: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.across = nn.Sequential(
                nn.Linear(tokens, middle), nn.GELU(), nn.Linear(middle, tokens)
            )
            self.within = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.within(self.norm2(x))

    enter = [nn.Conv2d(3, 14, 4, 4), nn.Flatten(2), Lambda(lambda x: x.transpose(1, 2))]
    mix = [Mixer(16, 14, 20, 10), Mixer(16, 14, 22, 9), nn.LayerNorm(14)]
    return nn.Sequential(*enter, *mix, Lambda(lambda x: x.mean(1)), nn.Linear(14, 5)), (
        image(size=16),
    )


@architecture
def gmlp() -> Built:
    """Liu et al. 2021: one half gates the other, mixed over tokens."""

    class Gated(nn.Module):
        def __init__(self, width: int, half: int, tokens: int) -> None:
            super().__init__()
            self.norm, self.gate_norm = nn.LayerNorm(width), nn.LayerNorm(half)
            self.enter, self.leave = nn.Linear(width, 2 * half), nn.Linear(half, width)
            self.spatial = nn.Conv1d(tokens, tokens, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            u, v = F.gelu(self.enter(self.norm(x))).chunk(2, -1)
            return x + self.leave(u * self.spatial(self.gate_norm(v)))

    layers = [nn.Embedding(50, 14), Gated(14, 18, 7), Gated(14, 16, 7), nn.Linear(14, 50)]
    return nn.Sequential(*layers), (tokens(),)


@architecture
def torch_transformer() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(50, 16), nn.Embedding(40, 16)
            self.core = nn.Transformer(16, 4, 2, 2, 26, batch_first=True)
            self.out = nn.Linear(16, 40)

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=self.out.weight.dtype)
            x, y = self.source(source), self.target(target)
            # Without the flag the forward looks at the mask's values.
            return self.out(self.core(x, y, tgt_mask=mask, tgt_is_causal=True))

    return Model(), (tokens(), tokens(40, 5))


@architecture
def torch_transformer_encoder() -> Built:
    layer = nn.TransformerEncoderLayer(16, 4, 26, batch_first=True, norm_first=True)
    core = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(50, 16), core, nn.Linear(16, 5)), (tokens(),)


@architecture
def torch_multihead_cross_attention() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.memory = nn.Linear(6, 16), nn.Linear(5, 10)
            self.attn = nn.MultiheadAttention(16, 4, kdim=10, vdim=10, batch_first=True)
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
            m, x = self.memory(memory), self.enter(x)
            y, _ = self.attn(x, m, m, need_weights=False)
            return self.head(x + y)

    return Model(), (torch.randn(2, 4, 6), torch.randn(2, 7, 5))


class TimmViT(nn.Module):
    """timm's layout: class token, position embedding, fused qkv, spelled out or fused attention."""

    def __init__(self, spelled_out: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.cls, self.pos = (
            nn.Parameter(torch.zeros(1, 1, 16)),
            nn.Parameter(torch.zeros(1, 17, 16)),
        )
        self.blocks = nn.Sequential(*(Block(16, 4, 22 + 2 * i, spelled_out) for i in range(2)))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


register("vit_timm_layout", lambda: (TimmViT(False), (image(size=16),)))
register("vit_timm_layout_spelled_out", lambda: (TimmViT(True), (image(size=16),)))


@architecture
def mingpt() -> Built:
    """Karpathy's GPT: one fused projection split by width, a causal mask kept as a buffer."""

    class Causal(nn.Module):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__()
            self.dim, self.heads = dim, heads
            self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).split(self.dim, dim=2)
            q, k, v = (
                y.view(b, t, self.heads, self.dim // self.heads).transpose(1, 2) for y in (q, k, v)
            )
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
            y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(b, t, -1)
            return self.proj(y)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2, self.attn = nn.LayerNorm(20), nn.LayerNorm(20), Causal(20, 4)
            self.mlp = nn.Sequential(nn.Linear(20, 34), nn.GELU(), nn.Linear(34, 20))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(50, 20), nn.Embedding(16, 20)
            self.h = nn.Sequential(Layer(), Layer(), nn.LayerNorm(20))
            self.head = nn.Linear(20, 50, bias=False)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            positions = torch.arange(ids.shape[1], device=ids.device)
            return self.head(self.h(self.wte(ids) + self.wpe(positions)))

    return GPT(), (tokens(),)


@architecture
def linear_attention() -> Built:
    """Katharopoulos et al. 2020, written with einsum."""

    class Linear(nn.Module):
        def __init__(self, dim: int, heads: int, head_dim: int) -> None:
            super().__init__()
            self.heads, self.head_dim = heads, head_dim
            self.q, self.k, self.v = (nn.Linear(dim, heads * head_dim) for _ in range(3))
            self.out = nn.Linear(heads * head_dim, dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, n, _ = x.shape
            q, k, v = (
                layer(x).view(b, n, self.heads, self.head_dim) for layer in (self.q, self.k, self.v)
            )
            q, k = F.elu(q) + 1, F.elu(k) + 1
            memory = torch.einsum("bnhd,bnhe->bhde", k, v)
            scale = 1 / torch.einsum("bnhd,bhd->bnh", q, k.sum(1))
            y = torch.einsum("bnhd,bhde,bnh->bnhe", q, memory, scale)
            return x + self.out(y.flatten(2))

    return nn.Sequential(
        nn.Embedding(50, 14), Linear(14, 3, 6), Linear(14, 3, 5), nn.Linear(14, 5)
    ), (tokens(),)


@architecture
def multi_query_attention() -> Built:
    class MultiQuery(nn.Module):
        def __init__(self, dim: int, heads: int, head_dim: int) -> None:
            super().__init__()
            self.heads, self.head_dim = heads, head_dim
            self.fused = nn.Linear(dim, (heads + 2) * head_dim)
            self.out = nn.Linear(heads * head_dim, dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, n, _ = x.shape
            sizes = [self.heads * self.head_dim, self.head_dim, self.head_dim]
            q, k, v = self.fused(x).split(sizes, -1)
            q = q.view(b, n, self.heads, self.head_dim).transpose(1, 2)
            k, v = (
                k[:, None].expand(-1, self.heads, -1, -1),
                v[:, None].expand(-1, self.heads, -1, -1),
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + self.out(y.transpose(1, 2).flatten(2))

    layers = [nn.Embedding(50, 14), MultiQuery(14, 4, 6), MultiQuery(14, 3, 5), nn.Linear(14, 5)]
    return nn.Sequential(*layers), (tokens(),)


@architecture
def diagonal_state_space() -> Built:
    """S4D: a kernel of exponentials, applied as a convolution along time."""

    class Diagonal(nn.Module):
        def __init__(self, width: int, states: int) -> None:
            super().__init__()
            self.log_a, self.c = (nn.Parameter(torch.randn(width, states)) for _ in range(2))
            self.d, self.mix = nn.Parameter(torch.randn(width)), nn.Linear(width, 2 * width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.shape[1]
            times = torch.arange(n, device=x.device)
            kernel = (self.c[..., None] * torch.exp(-self.log_a.exp()[..., None] * times)).sum(1)
            lag = times[:, None] - times[None, :]
            toeplitz = kernel[:, lag.clamp_min(0)] * (lag >= 0)
            y = torch.einsum("hts,bsh->bth", toeplitz, x) + x * self.d
            return x + F.glu(self.mix(F.gelu(y)), -1)

    layers = [nn.Linear(3, 12), Diagonal(12, 6), Diagonal(12, 5), nn.Linear(12, 4)]
    return nn.Sequential(*layers), (torch.randn(2, 7, 3),)


@architecture
def top2_mixture_of_experts() -> Built:
    """Fused expert weights and a softmax router, dense over experts, by einsum."""

    class Experts(nn.Module):
        def __init__(self, dim: int, hidden: int, experts: int) -> None:
            super().__init__()
            self.router = nn.Linear(dim, experts, bias=False)
            self.w1 = nn.Parameter(torch.randn(experts, dim, hidden))
            self.w2 = nn.Parameter(torch.randn(experts, hidden, dim))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.router(x).softmax(-1)
            kept = scores * (scores >= scores.topk(2, -1).values[..., -1:])
            y = F.silu(torch.einsum("btd,edh->bteh", x, self.w1))
            y = torch.einsum("bteh,ehd->bted", y, self.w2)
            return x + torch.einsum("bted,bte->btd", y, kept)

    layers = [nn.Embedding(50, 12), Experts(12, 16, 4), Experts(12, 14, 5), nn.Linear(12, 5)]
    return nn.Sequential(*layers), (tokens(),)


@architecture
def conformer() -> Built:
    class Conformer(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(dim, 4, batch_first=True)
            self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
            self.ff = nn.ModuleList(
                nn.Sequential(nn.Linear(dim, h), nn.SiLU(), nn.Linear(h, dim)) for h in (22, 26)
            )
            self.enter, self.leave = nn.Conv1d(dim, 2 * dim, 1), nn.Conv1d(dim, dim, 1)
            self.depth, self.bn = nn.Conv1d(dim, dim, 3, padding=1, groups=dim), nn.BatchNorm1d(dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + 0.5 * self.ff[0](self.norms[0](x))
            y = self.norms[1](x)
            x = x + self.attn(y, y, y)[0]
            y = F.glu(self.enter(self.norms[2](x).transpose(1, 2)), 1)
            x = x + self.leave(F.silu(self.bn(self.depth(y)))).transpose(1, 2)
            return x + 0.5 * self.ff[1](self.norms[3](x))

    return nn.Sequential(nn.Linear(10, 16), Conformer(16), Conformer(16), nn.Linear(16, 7)), (
        torch.randn(2, 9, 10),
    )
