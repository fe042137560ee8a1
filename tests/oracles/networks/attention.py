"""Attention by torch's own modules, masks, memories, and models with several inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tests.oracles.networks.cases import Model, case, sequence, weight

Pair = tuple[nn.Module, Any]


def attended(attention: nn.Module, forward: Any, *others: torch.Tensor, width: int = 8) -> Pair:
    parts = {"embed": nn.Linear(4, 8), "attention": attention, "head": nn.Linear(width, 3)}
    return Model(forward, **parts), (sequence(), *others)


def itself(m: Any, x: Any) -> Any:
    y = m.embed(x)
    return m.head(y + m.attention(y, y, y, need_weights=False)[0])


@case("embed.out attention.out.head attention.out.head_feature")
def multihead_attention() -> Pair:
    return attended(nn.MultiheadAttention(8, 2, batch_first=True), itself)


@case("embed.out attention.out.head attention.out.head_feature")
def multihead_attention_time_first() -> Pair:
    return attended(nn.MultiheadAttention(8, 2, bias=False), itself)


@case("embed.out attention.out.head:norm-changed attention.out.head_feature attention.out_proj.out")
def multihead_attention_with_weights() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = m.embed(x)
        out, weights = m.attention(y, y, y, average_attn_weights=True)
        return m.head(out), weights

    return attended(nn.MultiheadAttention(8, 2, batch_first=True), forward)


@case("embed.out attention.out.head attention.out.head_feature attention.out_proj.out")
def multihead_attention_masked() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = m.embed(x)
        mask = torch.triu(torch.full((5, 5), float("-inf"), dtype=x.dtype), 1)
        return m.head(m.attention(y, y, y, attn_mask=mask, is_causal=True, need_weights=False)[0])

    return attended(nn.MultiheadAttention(8, 2, batch_first=True), forward)


@case("embed.out attention.out.head attention.out.head_feature attention.out_proj.out")
def multihead_attention_padded() -> Pair:
    def forward(m: Any, x: Any, padding: Any) -> Any:
        y = m.embed(x)
        return m.head(m.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0])

    padding = torch.tensor([[False] * 4 + [True], [False] * 5])
    return attended(nn.MultiheadAttention(8, 2, batch_first=True), forward, padding)


@case(
    "embed.out "
    "attention.out.head "
    "attention.out.head_feature "
    "attention.out.head_feature.2 "
    "attention.out_proj.out"
)
def cross_attention() -> Pair:
    def forward(m: Any, x: Any, z: Any) -> Any:
        return m.head(m.attention(m.embed(x), z, z, need_weights=False)[0])

    attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    return attended(attention, forward, sequence(6, 7))


@case("embed.out attention.out.head attention.out.head_feature attention.out_proj.out")
def cross_attention_of_one_width() -> Pair:
    def forward(m: Any, x: Any, z: Any) -> Any:
        y = m.embed(z)
        return m.head(m.attention(m.embed(x), y, y, need_weights=False)[0])

    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    return attended(attention, forward, sequence(4, 7))


@case("embed.out attention.out.head attention.out.head_feature")
def attention_with_bias_and_zero_keys() -> Pair:
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True)
    return attended(attention, itself)


@case("query.out.3 attention.out.head attention.out.head_feature attention.out_proj.out")
def attention_pool() -> Pair:
    """A learned query looks at all tokens."""

    def forward(m: Any, x: Any) -> Any:
        y = m.embed(x)
        query = m.query.expand(x.shape[0], -1, -1)
        return m.head(m.attention(query, y, y, need_weights=False)[0])

    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    parts = {"embed": nn.Linear(4, 8), "attention": attention, "head": nn.Linear(8, 3)}
    return Model(forward, **parts, query=weight(1, 2, 8)), (sequence(),)


@case(
    "embed.out:norm-changed "
    "attention.layers.0.self_attn.out.head "
    "attention.layers.0.self_attn.out.head_feature "
    "attention.layers.0.linear1.out "
    "attention.layers.1.self_attn.out.head "
    "attention.layers.1.self_attn.out.head_feature "
    "attention.layers.1.linear1.out"
)
def transformer_encoder() -> Pair:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu")
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return attended(encoder, lambda m, x: m.head(m.attention(m.embed(x))))


@case(
    "embed.out:norm-changed "
    "attention.self_attn.out.head "
    "attention.self_attn.out.head_feature "
    "attention.linear1.out"
)
def transformer_encoder_norm_first() -> Pair:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, bias=False)
    return attended(layer, lambda m, x: m.head(m.attention(m.embed(x))))


@case(
    "embed.out:norm-changed "
    "attention.encoder.layers.0.self_attn.out.head "
    "attention.encoder.layers.0.self_attn.out.head_feature "
    "attention.encoder.layers.0.linear1.out "
    "attention.decoder.layers.0.self_attn.out.head "
    "attention.decoder.layers.0.self_attn.out.head_feature "
    "attention.decoder.layers.0.multihead_attn.out.head "
    "attention.decoder.layers.0.multihead_attn.out.head_feature "
    "attention.decoder.layers.0.linear1.out"
)
def transformer() -> Pair:
    def forward(m: Any, x: Any, z: Any) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=x.dtype)
        return m.head(m.attention(m.embed(x), m.embed(z), tgt_mask=mask, tgt_is_causal=True))

    body = nn.Transformer(8, 2, 1, 1, 12, batch_first=True)
    return attended(body, forward, sequence(4, 3))


@case("q.out.head q.out.head_feature v.out.head_feature")
def attention_with_mask_and_scale() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (m.q, m.k, m.v))
        mask = torch.ones(5, 5, dtype=torch.bool).tril()
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return m.head((y + z).transpose(1, 2).flatten(2))

    layers = {name: nn.Linear(4, 8) for name in "qkv"}
    return Model(forward, **layers, head=nn.Linear(8, 3)), (sequence(),)


@case("q.out.head q.out.head_feature v.out.head_feature")
def attention_spelled_out() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (m.q, m.k, m.v))
        scores = (q @ k.transpose(-2, -1)) / 4**0.5
        scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), float("-inf"))
        return m.head((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    layers = {name: nn.Linear(4, 8) for name in "qkv"}
    return Model(forward, **layers, head=nn.Linear(8, 3)), (sequence(),)


@case("q.out:data-dependent v.out")
def linear_attention() -> Pair:
    """Katharopoulos 2020: φ(q) (φ(k)ᵀ v), normalised."""

    def forward(m: Any, x: Any) -> Any:
        q, k = F.elu(m.q(x)) + 1, F.elu(m.k(x)) + 1
        context = torch.einsum("bnd,bne->bde", k, m.v(x))
        scale = 1 / torch.einsum("bnd,bd->bn", q, k.sum(1))
        return m.head(torch.einsum("bnd,bde,bn->bne", q, context, scale))

    layers = {"q": nn.Linear(4, 6), "k": nn.Linear(4, 6), "v": nn.Linear(4, 8)}
    return Model(forward, **layers, head=nn.Linear(8, 3)), (sequence(),)


# Several inputs and outputs, modules used twice, ties


@dataclass
class Predictions:
    label: torch.Tensor
    box: torch.Tensor


class Sizes(NamedTuple):
    small: torch.Tensor
    large: torch.Tensor


@case("embed.out:norm-changed")
def outputs_in_a_dict() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x))
        return {"label": m.head(y), "extra": [m.box(y), (y.mean(-1), None)]}

    parts = {"embed": nn.Linear(4, 6), "head": nn.Linear(6, 3), "box": nn.Linear(6, 4)}
    return Model(forward, **parts), (sequence(),)


@case("embed.out")
def outputs_in_a_named_tuple() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x))
        return Sizes(m.head(y), m.box(y))

    parts = {"embed": nn.Linear(4, 6), "head": nn.Linear(6, 3), "box": nn.Linear(6, 4)}
    return Model(forward, **parts), (sequence(),)


@case("embed.out")
def inputs_in_containers() -> Pair:
    def forward(m: Any, batch: Any) -> Any:
        left, right = batch["pair"]
        return m.head(torch.relu(m.embed(left)) + torch.relu(m.embed(right)))

    model = Model(forward, embed=nn.Linear(4, 6), head=nn.Linear(6, 3))
    return model, ({"pair": (sequence(), sequence())},)


@case("embed.out")
def module_called_twice() -> Pair:
    """Siamese towers and a layer that is applied over and over."""

    def forward(m: Any, x: Any, y: Any) -> Any:
        a, b = torch.relu(m.embed(x)), torch.relu(m.embed(y))
        for _ in range(2):
            a = torch.relu(m.again(a))
        return m.head(torch.cat([a, b], -1))

    parts = {"embed": nn.Linear(4, 6), "again": nn.Linear(6, 6), "head": nn.Linear(12, 3)}
    return Model(forward, **parts), (sequence(), sequence())


@case("encoder.out")
def tied_autoencoder() -> Pair:
    """The decoder is the encoder's weight, transposed."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.encoder(x))
        return F.linear(y, m.encoder.weight.t()) + F.linear(torch.tanh(y), m.encoder.weight.T)

    return Model(forward, encoder=nn.Linear(4, 6)), (sequence(),)


@case("embed.out")
def tied_parameters() -> Pair:
    model = Model(
        lambda m, x: m.head(torch.relu(m.b(torch.relu(m.a(torch.relu(m.embed(x))))))),
        embed=nn.Linear(4, 6),
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 6),
        head=nn.Linear(6, 3),
    )
    model.b.weight = model.a.weight
    return model, (sequence(),)


@case("embed.out.group:bias-fold embed.out.channel:norm-changed", film__in="numbered positions")
def time_embedding() -> Pair:
    """Diffusion: a sinusoidal embedding of time scales and shifts the channels (FiLM)."""

    def forward(m: Any, x: Any, t: Any) -> Any:
        angle = t[:, None] * torch.exp(-torch.arange(2, dtype=x.dtype))
        scale, shift = m.film(torch.cat([angle.sin(), angle.cos()], -1)).chunk(2, -1)
        y = F.group_norm(m.embed(x).transpose(1, 2), 2) * (1 + scale[..., None]) + shift[..., None]
        return m.head(F.silu(y).transpose(1, 2))

    parts = {"embed": nn.Linear(4, 8), "film": nn.Linear(4, 16), "head": nn.Linear(8, 3)}
    return Model(forward, **parts), (sequence(), torch.rand(2))
