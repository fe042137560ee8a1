"""Tied parameters get values of their own, the same ones, wherever the configuration is."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from graphs.build.ties import untie


def test_values_flags_and_configurations():
    model = nn.Module()
    model.config = SimpleNamespace(
        tie_word_embeddings=True, text_config=SimpleNamespace(tie_word_embeddings=True)
    )
    model.embed, model.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    model.head.weight = model.embed.weight
    model.embed.weight.requires_grad_(False)
    model.head.config = kept = model.config
    untie(model, ["head.weight"])
    assert model.head.weight is not model.embed.weight
    assert torch.equal(model.head.weight, model.embed.weight)
    assert not model.head.weight.requires_grad
    assert model.config is model.head.config
    assert not model.config.tie_word_embeddings
    assert not model.config.text_config.tie_word_embeddings
    assert kept.tie_word_embeddings
    assert kept.text_config.tie_word_embeddings


def test_nothing_to_untie_leaves_everything():
    model = nn.Module()
    model.config = config = SimpleNamespace(tie_word_embeddings=True)
    untie(model, [])
    assert model.config is config
    assert config.tie_word_embeddings
