"""Positions moved, repeated, looked up and padded: views, layouts, shuffles, indexing."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.oracles.networks.cases import Model, case, picture, sequence, weight

Pair = tuple[nn.Module, Any]


def pictures(function: Any, channels: int = 6, out: int = 6) -> Pair:
    """A function between two convolutions."""
    model = Model(
        lambda m, x: m.head(function(torch.relu(m.conv(x))).mean((2, 3))),
        conv=nn.Conv2d(3, channels, 3, padding=1),
        head=nn.Linear(out, 3),
    )
    return model, (picture(),)


def tokens(function: Any, width: int = 6, out: int = 6, length: int = 5) -> Pair:
    """A function on (batch, token, feature) between two linear layers."""
    model = Model(
        lambda m, x: m.head(function(torch.relu(m.embed(x)))),
        embed=nn.Linear(4, width),
        head=nn.Linear(out, 3),
    )
    return model, (sequence(4, length),)


# Repeats


@case("embed.out head.in.unit:data-dependent")
def repeat_channels() -> Pair:
    return tokens(lambda y: y.repeat(1, 1, 3), out=18)


@case("embed.out head.in.unit:data-dependent")
def tile_channels() -> Pair:
    return tokens(lambda y: y.tile(2), out=12)


@case("embed.out head.in.unit:data-dependent")
def repeat_interleave_channels() -> Pair:
    return tokens(lambda y: y.repeat_interleave(2, -1), out=12)


@case("embed.out")
def repeat_tokens() -> Pair:
    return tokens(lambda y: y.repeat(1, 2, 1).repeat_interleave(3, dim=1).tile(2, 1))


@case("token.out.3")
def repeat_a_class_token() -> Pair:
    model = Model(
        lambda m, x: m.head(torch.cat([m.token.repeat(x.shape[0], 1, 1), m.embed(x)], 1)[:, 0:2]),
        token=weight(1, 1, 6),
        embed=nn.Linear(4, 6),
        head=nn.Linear(6, 3),
    )
    return model, (sequence(),)


@case("scale.out")
def repeat_grey_to_channels() -> Pair:
    model = Model(
        lambda m, x: m.head((x.repeat(1, 6, 1, 1) * m.scale).mean((2, 3))),
        scale=weight(6, 1, 1),
        head=nn.Linear(6, 3),
    )
    return model, (picture(1),)


@case(
    embed__out="positions are repeated by a tensor of counts",
    head__in="positions repeated by a tensor of counts",
)
def repeat_by_counts() -> Pair:
    counts = torch.tensor([1, 2, 1, 3, 1, 1])
    return tokens(lambda y: torch.repeat_interleave(y, counts, -1, output_size=9), out=9)


@case("q.out.head q.out.head.2:data-dependent q.out.head_feature v.out.head_feature")
def grouped_query_attention_by_repeat() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        b, n, _ = x.shape
        q = m.q(x).view(b, n, 4, 3).transpose(1, 2)
        k = m.k(x).view(b, n, 2, 3).transpose(1, 2).repeat_interleave(2, dim=1)
        v = m.v(x).view(b, n, 2, 3).transpose(1, 2).repeat_interleave(2, dim=1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        return m.head(y)

    layers = {"q": nn.Linear(4, 12), "k": nn.Linear(4, 6), "v": nn.Linear(4, 6)}
    return Model(forward, **layers, head=nn.Linear(12, 3)), (sequence(),)


# Order


@case("embed.out")
def roll_and_flip_tokens() -> Pair:
    return tokens(lambda y: y.roll(2, 1).flip(1) + torch.roll(y, (1, 1), (0, 1)))


@case(embed__out="roll over units")
def roll_channels() -> Pair:
    return tokens(lambda y: y.roll(1, -1))


@case(embed__out="flip over units")
def flip_channels() -> Pair:
    return tokens(lambda y: y.flip(-1))


@case("embed.out")
def cumulative_over_tokens() -> Pair:
    return tokens(lambda y: y.cumsum(1) + y.cummax(1).values + y.cumprod(1))


@case(embed__out="cumsum over units")
def cumulative_over_channels() -> Pair:
    return tokens(lambda y: y.cumsum(-1))


@case("conv.out")
def shifted_windows() -> Pair:
    def windows(y: Any) -> Any:
        y = torch.roll(y.permute(0, 2, 3, 1), (-2, -2), (1, 2))
        b, h, w, c = y.shape
        y = y.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2)

    return pictures(windows)


# Looking up


PLACES = torch.tensor([3, 0, 2])


@case("embed.out")
def index_tokens() -> Pair:
    return tokens(lambda y: y[:, PLACES] + y.index_select(1, PLACES) + y[:, [0, 1, 4]])


@case("embed.out")
def gather_tokens() -> Pair:
    def gathered(y: Any) -> Any:
        places = PLACES.view(1, 3, 1).expand(y.shape[0], 3, y.shape[2])
        return y.gather(1, places)

    return tokens(gathered)


@case("embed.out")
def gather_tokens_by_score() -> Pair:
    """Token pruning: the k best tokens go on."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x))
        best = m.score(y).squeeze(-1).topk(3, dim=1).indices
        chosen = y.gather(1, best.unsqueeze(-1).expand(-1, -1, y.shape[-1]))
        return m.head(chosen)

    layers = {"embed": nn.Linear(4, 6), "score": nn.Linear(6, 1), "head": nn.Linear(6, 3)}
    return Model(forward, **layers), (sequence(),)


@case("embed.out")
def take_along_tokens() -> Pair:
    return tokens(lambda y: torch.take_along_dim(y, PLACES.view(1, 3, 1), 1))


@case("embed.out")
def scatter_tokens() -> Pair:
    """Masked autoencoder: visible tokens among zeros."""

    def scattered(y: Any) -> Any:
        places = torch.tensor([6, 1, 0, 2, 4]).view(1, 5, 1).expand_as(y)
        blank = y.new_zeros(y.shape[0], 7, y.shape[2])
        return blank.scatter(1, places, y) + blank.scatter_add(1, places, y)

    return tokens(scattered)


@case("embed.out")
def index_add_tokens() -> Pair:
    """Message passing over a fixed graph."""
    source, target = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 4, 0])
    return tokens(lambda y: torch.zeros_like(y).index_add(1, target, y[:, source]))


@case("embed.out")
def index_put_tokens() -> Pair:
    def put(y: Any) -> Any:
        y = y.transpose(0, 1).clone()
        y[PLACES] = y[PLACES] * 2
        return y

    return tokens(put)


@case(embed__out="positions are looked up by number", head__in="places")
def gather_channels() -> Pair:
    return tokens(lambda y: y.gather(-1, torch.zeros(2, 5, 6, dtype=torch.long)))


@case("bag.out")
def embedding_bag() -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.bag(x))), bag=nn.EmbeddingBag(9, 6), head=nn.Linear(6, 3)
    )
    return model, (torch.randint(0, 9, (2, 4)),)


@case("embed.out", embed__in="one-hot")
def one_hot_and_buckets() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        buckets = torch.bucketize(x[..., 0], torch.linspace(-1, 1, 3))
        return m.head(torch.relu(m.embed(F.one_hot(buckets, 4).to(x.dtype))))

    return Model(forward, embed=nn.Linear(4, 6), head=nn.Linear(6, 3)), (sequence(),)


@case("table.out.2 q.out.head_feature v.out.head_feature", table__out="looked up by number")
def relative_position_bias() -> Pair:
    places = (torch.arange(5)[None] - torch.arange(5)[:, None] + 4).flatten()

    def forward(m: Any, x: Any) -> Any:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, 2, 4).transpose(1, 2) for f in (m.q, m.k, m.v))
        bias = m.table[places].view(n, n, 2).permute(2, 0, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return m.head(y.transpose(1, 2).reshape(b, n, -1))

    layers: dict[str, Any] = {name: nn.Linear(4, 8) for name in "qkv"}
    return Model(forward, table=weight(9, 2), **layers, head=nn.Linear(8, 3)), (sequence(),)


# Choosing


@case("embed.out")
def masks_over_tokens() -> Pair:
    mask = torch.tensor([True, False, True, True, False])[:, None]
    return tokens(lambda y: y.masked_fill(mask, 0.0) + torch.where(mask, y, torch.zeros_like(y)))


@case("embed.out:data-dependent")
def mask_that_is_not_zero() -> Pair:
    mask = torch.tensor([True, False, True, True, False])[:, None]
    return tokens(lambda y: y.masked_fill(mask, 1.0))


@case("embed.out")
def triangle_over_tokens() -> Pair:
    return tokens(lambda y: torch.tril(torch.ones(5, 5, dtype=y.dtype)) @ y)


@case("embed.out")
def assignment_to_tokens() -> Pair:
    def assigned(y: Any) -> Any:
        y = y.clone()
        y[:, 0] = 0
        y[:, 1:3] = y[:, 2:4] * 2
        return y

    return tokens(assigned)


@case("embed.out:data-dependent")
def assignment_that_is_not_zero() -> Pair:
    def assigned(y: Any) -> Any:
        y = y.clone()
        y[:, 0] = 1
        return y

    return tokens(assigned)


@case("embed.out:bias-fold")
def comparison() -> Pair:
    return tokens(lambda y: (y >= 0).to(y.dtype))


@case(embed__out="coordinates of a grid")
def coordinates() -> Pair:
    def added(y: Any) -> Any:
        rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
        return y + (rows * columns).to(y.dtype)

    return tokens(added)


# Layouts


@case("gamma.out:norm-changed expand.out")
def channels_last_block() -> Pair:
    """ConvNeXt: a depthwise convolution, then norm and linear layers over the last dimension."""

    def forward(m: Any, x: Any) -> Any:
        x = m.conv(x)
        y = m.norm(m.depthwise(x).permute(0, 2, 3, 1))
        y = m.gamma * m.project(F.gelu(m.expand(y)))
        return m.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))

    parts = {
        "conv": nn.Conv2d(3, 6, 1),
        "depthwise": nn.Conv2d(6, 6, 3, padding=1, groups=6),
        "norm": nn.LayerNorm(6),
        "expand": nn.Linear(6, 12),
        "project": nn.Linear(12, 6),
        "gamma": weight(6),
    }
    return Model(forward, **parts, head=nn.Linear(6, 3)), (picture(),)


@case("conv.out")
def channels_last_flatten() -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.conv(x)).permute(0, 2, 3, 1).flatten(1)),
        conv=nn.Conv2d(3, 6, 3, padding=1),
        head=nn.Linear(384, 3),
    )
    return model, (picture(),)


@case("conv.out head.in.unit.2")
def pad_channels_with_zeros() -> Pair:
    return pictures(lambda y: F.pad(y, (0, 0, 0, 0, 1, 2)), out=9)


@case("conv.out:data-dependent")
def pad_space_with_ones() -> Pair:
    return pictures(lambda y: F.pad(y, (1, 1, 1, 1), value=1.0))


@case("conv.out")
def pad_space_by_reflection() -> Pair:
    return pictures(lambda y: F.pad(F.pad(y, (1, 1, 1, 1), "reflect"), (2, 2, 2, 2), "circular"))


def shuffled(y: torch.Tensor, groups: int) -> torch.Tensor:
    b, c, h, w = y.shape
    return y.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


@case("conv.out.group conv.out.channel grouped.out.channel grouped.out.channel.2")
def channel_shuffle() -> Pair:
    """ShuffleNet: a grouped convolution, its channels shuffled, a depthwise one."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.grouped(torch.relu(m.conv(x))))
        y = m.depthwise(shuffled(y, 2))
        return m.head(F.channel_shuffle(y, 3).mean((2, 3)))

    parts = {
        "conv": nn.Conv2d(3, 8, 1),
        "grouped": nn.Conv2d(8, 12, 1, groups=2),
        "depthwise": nn.Conv2d(12, 12, 3, groups=12),
    }
    return Model(forward, **parts, head=nn.Linear(12, 3)), (picture(),)


@case("conv.out.channel fine.out", conv__out__channel__2="places inside a pixel")
def pixel_shuffle() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = F.pixel_shuffle(torch.relu(m.conv(x)), 2)
        return m.head(F.pixel_unshuffle(torch.relu(m.fine(y)), 2).mean((2, 3)))

    parts = {"conv": nn.Conv2d(3, 8, 1), "fine": nn.Conv2d(2, 5, 1), "head": nn.Linear(20, 3)}
    return Model(forward, **parts), (picture(),)


@case("conv.out.channel")
def chunked_gate() -> Pair:
    def gated(y: Any) -> Any:
        value, gate = y.chunk(2, 1)
        return value * torch.sigmoid(gate) + F.glu(y, 1)

    return pictures(gated, out=3)


@case("embed.out.feature.2 embed.out.feature.4")
def uneven_split() -> Pair:
    def pieces(y: Any) -> Any:
        a, b, c = y.split([1, 2, 3], -1)
        return torch.cat([c, torch.tanh(a), b, y[..., 4:]], -1)

    return tokens(pieces, out=8)


@case("embed.out")
def stacked_halves() -> Pair:
    return tokens(lambda y: torch.hstack([y, y * 2]).mean(1) + torch.stack([y, -y]).sum(0).mean(1))


@case("conv.out")
def unfold_windows() -> Pair:
    model = Model(
        lambda m, x: m.head(F.unfold(torch.relu(m.conv(x)), 2, stride=2).mean(2)),
        conv=nn.Conv2d(3, 6, 1),
        head=nn.Linear(24, 3),
    )
    return model, (picture(),)


@case("conv.out")
def unfold_then_fold() -> Pair:
    return pictures(lambda y: F.fold(F.unfold(y, 2, stride=2) * 2, (8, 8), 2, stride=2))


@case("embed.out")
def sliding_windows_over_tokens() -> Pair:
    return tokens(lambda y: y.unfold(1, 3, 1).mean(-1))


@case(conv__out="softmax over units")
def softmax_over_channels() -> Pair:
    return pictures(lambda y: torch.softmax(y, 1))


@case("conv.out")
def softmax_over_space() -> Pair:
    return pictures(lambda y: y * torch.softmax(y.flatten(2), -1).view_as(y))
