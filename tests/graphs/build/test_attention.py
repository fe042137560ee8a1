"""Attention of any width computes what torch's own does, and what it cannot."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.attention import AnyWidthAttention
from graphs.build.rebuild import graph_model, rebuild

E, HEADS, N, L, S = 12, 3, 2, 4, 5


def both(**options):
    torch.manual_seed(0)
    own = nn.MultiheadAttention(E, HEADS, dtype=torch.float64, **options).eval()
    if own.in_proj_bias is not None:
        nn.init.normal_(own.in_proj_bias)
    wide = copy.deepcopy(own)
    wide.__class__, wide.scale = AnyWidthAttention, own.head_dim**-0.5
    return own, wide


def inputs(batch_first=True, single=False, kdim=E, vdim=E):
    q, k, v = (torch.randn(N, n, d).double() for n, d in ((L, E), (S, kdim), (S, vdim)))
    if single:
        return q[0], k[0], v[0]
    return (q, k, v) if batch_first else tuple(x.transpose(0, 1) for x in (q, k, v))


def boolean(*shape):
    mask = torch.rand(*shape) < 0.4
    mask[..., 0] = False
    return mask


MASKS = {
    "none": lambda: {},
    "boolean": lambda: {"attn_mask": boolean(L, S)},
    "numbers": lambda: {"attn_mask": torch.randn(L, S).double()},
    "of every head": lambda: {"attn_mask": boolean(N * HEADS, L, S)},
    "padding": lambda: {"key_padding_mask": boolean(N, S)},
    "both": lambda: {"attn_mask": boolean(L, S), "key_padding_mask": boolean(N, S)},
}


def assert_same(own, wide, given, **options):
    y, weights = own(*given, **options)
    z, others = wide(*given, **options)
    torch.testing.assert_close(z, y, rtol=0, atol=1e-12)
    assert (weights is None) == (others is None)
    if weights is not None:
        torch.testing.assert_close(others, weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masks", list(MASKS))
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_where_torchs_own_fits_both_are_the_same(batch_first, need_weights, masks):
    own, wide = both(batch_first=batch_first)
    given = inputs(batch_first)
    assert_same(own, wide, given, need_weights=need_weights, **MASKS[masks]())


@pytest.mark.parametrize(
    "options", [{"bias": False}, {"kdim": 7, "vdim": 8}, {"kdim": 7, "vdim": 8, "bias": False}]
)
def test_other_projections(options):
    own, wide = both(batch_first=True, **options)
    sizes = {k: v for k, v in options.items() if k != "bias"}
    assert_same(own, wide, inputs(**sizes), average_attn_weights=False)


def test_one_example_without_a_batch():
    assert_same(*both(), inputs(single=True), attn_mask=boolean(L, S))


def test_a_hint_without_a_mask_is_refused_as_by_torch():
    for attention in both():
        with pytest.raises(RuntimeError, match="Need attn_mask"):
            attention(*inputs(False), is_causal=True)


def test_dropout_drops_in_training_only():
    _, wide = both(batch_first=True, dropout=0.5)
    given = inputs()
    assert torch.equal(wide(*given)[0], wide(*given)[0])
    wide.train()
    assert not torch.equal(wide(*given)[0], wide(*given)[0])


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 20, batch_first=True, dtype=torch.float64)
    model = nn.Sequential(
        nn.Linear(6, 16, dtype=torch.float64), nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)
    )
    return model.double().eval(), (torch.randn(2, 5, 6).double(),)


def test_an_encoder_of_torch_keeps_its_class_and_takes_padding_without_gradients():
    model, x = encoder()
    net = trace(model, x)
    heads = next(a.name for a in net.axes.values() if a.kind == "head")
    made = rebuild(net.remove({heads: [1], "0.out": [0, 3, 9]}))
    assert type(made.model) is nn.Sequential
    assert type(made.model[1]) is nn.TransformerEncoder
    assert isinstance(made.model[1].layers[0].self_attn, AnyWidthAttention)
    assert isinstance(made.model[1].layers[0].self_attn, nn.MultiheadAttention)
    assert "AnyWidthAttention" in " ".join(made.notes)
    expected = graph_model(net.remove({heads: [1], "0.out": [0, 3, 9]}))(*x)
    torch.testing.assert_close(made.model(*x), expected, rtol=0, atol=1e-10)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    stream = made.model[0](*x)
    with torch.no_grad():
        padded = made.model[1](stream, src_key_padding_mask=padding)
        shorter = made.model[1](stream[1:, :3])
    torch.testing.assert_close(padded[1:, :3], shorter, rtol=0, atol=1e-10)


def test_features_of_heads_go_with_the_scale_that_was_trained():
    model, x = encoder()
    net = trace(model, x)
    cut = {a.name: [1] for a in net.axes.values() if a.kind == "head feature" and not a.frozen}
    assert cut
    small = net.remove(cut)
    made = small.to_model()
    torch.testing.assert_close(made(*x), graph_model(small)(*x), rtol=0, atol=1e-10)
    assert {m.scale for m in made.modules() if isinstance(m, AnyWidthAttention)} == {0.5}
